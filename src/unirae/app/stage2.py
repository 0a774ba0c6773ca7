"""Put stage 2 together: the frozen autoencoder, the statistics of its latents, the denoiser, the training module."""

import os
from pathlib import Path

import lightning.pytorch as pl
import torch
import torch.distributed as dist

from unirae.app import builders
from unirae.app.rae_source import RaeSource, find_rae
from unirae.core.distributed import is_main
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import load_tensors, save_tensors
from unirae.core.log import get_logger
from unirae.data.dataset import ImageDataset
from unirae.data.latent_cache import CachedLatents
from unirae.evaluation.latent_cache import ensure_latent_cache
from unirae.evaluation.latent_statistics import compute_latent_stats
from unirae.models.denoiser import Denoiser, pair
from unirae.models.denoisers import build_denoiser
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE
from unirae.training.datamodule import TrainingData
from unirae.training.optimisation import OptimizerSettings
from unirae.training.stage2 import Stage2

log = get_logger(__name__)

STATS_FILE = "latent_stats.pt"
"""The statistics that were computed for a run, or for a latent cache."""


def assemble_stage2(
    cfg: builders.Config, trainer: pl.Trainer, checkpoint: Path | None
) -> tuple[Stage2, TrainingData]:
    """The module and its data, from the configuration of a run."""
    source, cache = find_rae(cfg), cfg["data"]["latent_cache"]
    rae = source.load(with_encoder=cache is None)
    images = builders.training_images(cfg, size=rae.output_size)
    device = trainer.strategy.root_device
    rae = with_statistics(rae, images, source=source, cfg=cfg, checkpoint=checkpoint, device=device)
    data = builders.build_data(
        cfg,
        size=rae.output_size,
        world_size=trainer.world_size,
        train_dataset=images if cache is None else cached_latents(cfg, source, rae, images, device),
    )
    return build_stage2(cfg, source, rae, images, steps_per_epoch=data.steps_per_epoch), data


def cached_latents(
    cfg: builders.Config, source: RaeSource, rae: RAE, images: ImageDataset, device: torch.device
) -> CachedLatents:
    """The latents of the training images, encoded now if they are not in the cache yet."""
    join_processes(device)
    return ensure_latent_cache(
        cfg["data"]["latent_cache"],
        rae=rae,
        open_encoder=source.load,
        dataset=images,
        dtype=cfg["data"]["latent_cache_dtype"],
        device=device,
    )


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
        compile=model["compile"],
        optimizer=OptimizerSettings(**model["optimizer"]),
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
    torch.manual_seed(cfg["seed"])  # whatever was drawn before: statistics and caches are not made in every run
    return build_denoiser(
        **node,
        in_channels=channels,
        input_size=tuple(sides),
        num_classes=num_classes,
        time_shift=cfg["flow"]["time_shift"],
        latent_stats=rae.stats,
    )


def with_statistics(
    rae: RAE,
    dataset: ImageDataset,
    *,
    source: RaeSource,
    cfg: builders.Config,
    checkpoint: Path | None,
    device: torch.device,
) -> RAE:
    """The RAE with statistics: those of the run that is continued, its own, or computed now over the training data.

    What is computed is kept beside the latent cache, or else in the run's folder, so that every process and every
    restart uses the same.
    """
    if checkpoint is not None:
        content = load_tensors(checkpoint)
        about, state = content["unirae"], content["state_dict"]
        if about["rae"]["fingerprint"] != rae.fingerprint:
            raise WeightsError(
                f"{checkpoint} was trained on another autoencoder than the one that this run opens (fingerprint "
                f"{about['rae']['fingerprint'][:12]}…, here {rae.fingerprint[:12]}…): give back the old one, or start anew"
            )
        mean, var = (state.get(f"dit.latent_stats.{name}") for name in ("mean", "var"))
        return rae.with_stats(LatentStats(mean=mean, var=var, info=about["latent_stats_info"]))
    if rae.stats.shape is not None:
        return rae
    cache = cfg["data"]["latent_cache"]
    file = Path(f"{cache}.{STATS_FILE}") if cache else Path(cfg["paths"]["output_dir"]) / STATS_FILE
    settings = cfg["model"]["latent_stats"]
    wanted = {"rae": rae.fingerprint, "data": dataset.source.fingerprint, **settings}
    if file.is_file() and (kept := load_tensors(file))["for"] == wanted:
        log.info("latent statistics: from %s", file)
        return rae.with_stats(LatentStats(**kept["latent_stats"]))
    join_processes(device)
    log.info("the autoencoder has no latent statistics: computing them over %d images", len(dataset))
    stats = compute_latent_stats(
        source.load().to(device),
        dataset,
        per=settings["per"],
        num_samples=settings["num_samples"],
        device=device,
        seed=cfg["seed"],
    )
    if is_main():
        save_tensors(file, {"for": wanted, "latent_stats": stats.to_dict()})
    return rae.with_stats(stats)


def join_processes(device: torch.device) -> None:
    """Under torchrun, form the group that Lightning will then use, so that the statistics are shared work."""
    if "TORCHELASTIC_RUN_ID" in os.environ and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
