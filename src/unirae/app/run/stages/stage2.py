"""Put stage 2 together: the frozen autoencoder, the denoiser on its latents, the training module and its data."""

from pathlib import Path

import lightning.pytorch as pl
import torch

from unirae.app.inputs.labels import check_labels
from unirae.app.run import builders
from unirae.app.run.latents import cached_latents, statistics_of_data, statistics_of_run
from unirae.app.run.rae_source import RaeSource, find_rae
from unirae.core.errors import ConfigError
from unirae.data.dataset import ImageDataset
from unirae.evaluation.latents.writing import check_cached_images
from unirae.models.denoisers.base import Denoiser, pair
from unirae.models.denoisers.build import build_denoiser
from unirae.models.rae import RAE
from unirae.training.datamodule import TrainingData
from unirae.training.stage2 import Stage2


def assemble_stage2(
    cfg: builders.Config, trainer: pl.Trainer, checkpoint: Path | None
) -> tuple[Stage2, TrainingData]:
    """The module and its data, from the configuration of a run."""
    source, cache = find_rae(cfg), cfg["data"]["latent_cache"]
    if cache is not None and "fd" in cfg["callbacks"]["generation_metrics"]["metrics"]:
        raise ConfigError(
            "callbacks.generation_metrics.metrics has fd, which needs the encoder that data.latent_cache leaves out; "
            "score fid, or nothing with metrics=[]"
        )
    rae = source.load(with_encoder=cache is None)
    images = builders.training_images(cfg, size=rae.output_size, exact=True)  # for statistics and the cache
    validation = builders.build_dataset(cfg["data"], split="val", size=rae.output_size, use="eval")
    _check_guidance(cfg, num_classes=images.source.num_classes)
    check_labels(checkpoint, images.source.class_names, accept=cfg["ckpt_other_labels"])
    if cache is not None:
        check_cached_images(cache, images, trust=cfg["data"]["latent_cache_trust"])
    if checkpoint is not None:
        rae = rae.with_stats(statistics_of_run(checkpoint, rae))
    elif rae.stats.shape is None:
        rae = rae.with_stats(statistics_of_data(rae, images, source=source, cfg=cfg, trainer=trainer))
    if cache is None:
        trained_on = builders.training_images(cfg, size=rae.output_size, source=images.source)
    else:
        trained_on = cached_latents(cfg, source, rae, images, trainer)
    data = builders.build_data(
        cfg, size=rae.output_size, trainer=trainer, train_dataset=trained_on, eval_dataset=validation
    )
    return build_stage2(cfg, source, rae, images, steps_per_epoch=data.steps_per_epoch), data


def build_stage2(
    cfg: builders.Config, source: RaeSource, rae: RAE, dataset: ImageDataset, *, steps_per_epoch: int
) -> Stage2:
    """The training module of stage 2, on an RAE that has its latents' statistics."""
    model = cfg["model"]
    return Stage2(
        rae=rae,
        rae_reference=source.reference(rae, checkpoints=Path(cfg["paths"]["output_dir"]) / "checkpoints"),
        denoiser=denoiser_for(cfg, rae, num_classes=dataset.source.num_classes),
        class_names=dataset.source.class_names,
        time_distribution=cfg["flow"]["time_distribution"],
        label_dropout=model["label_dropout"],
        ema_extra_decays=model["ema_extra_decays"],
        optimizer=builders.build_optimizer(model, "optimizer"),
        schedule=builders.build_schedule(model, "scheduler", "optimizer", steps_per_epoch=steps_per_epoch),
        **builders.common_parts(cfg),
    )


def denoiser_for(cfg: builders.Config, rae: RAE, *, num_classes: int) -> Denoiser:
    """A new network whose shapes follow from the autoencoder's latents.

    Raises:
        ConfigError: a shape was given that is another one.
    """
    node = dict(cfg["model"]["dit"])
    channels, *sides = rae.latent_shape
    given = (node.pop("in_channels"), node.pop("input_size"))
    if given[0] not in (None, channels):
        raise ConfigError(f"model.dit.in_channels={given[0]}, but the autoencoder's latents have {channels}")
    if given[1] is not None and list(pair(given[1])) != sides:
        raise ConfigError(
            f"model.dit.input_size={given[1]}, but the autoencoder's latents are {sides[0]}×{sides[1]}"
        )
    # whatever was drawn before: statistics and caches are not made in every run
    torch.manual_seed(cfg["seed"])
    return build_denoiser(
        **node,
        in_channels=channels,
        input_size=tuple(sides),
        num_classes=num_classes,
        time_shift=cfg["flow"]["time_shift"],
        latent_stats=rae.stats,
    )


def _check_guidance(cfg: builders.Config, *, num_classes: int) -> None:
    """Refuse guidance of a network that will know no labels, before anything long begins."""
    callbacks = cfg["callbacks"]
    sampling = ["samples", *(["generation_metrics"] if callbacks["generation_metrics"]["metrics"] else [])]
    guided = [node for node in sampling if callbacks[node]["cfg_scale"] != 1.0]
    if guided and num_classes == 0:
        settings = " and ".join(
            f"callbacks.{node}.cfg_scale={callbacks[node]['cfg_scale']}" for node in guided
        )
        raise ConfigError(
            f"{settings}: guidance needs data with labels, and these have none; set "
            + " ".join(f"callbacks.{node}.cfg_scale=1.0" for node in guided)
        )
