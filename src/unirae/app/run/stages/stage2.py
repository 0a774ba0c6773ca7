"""Stage 2: a diffusion transformer on the latents of a frozen autoencoder (RAE paper, sections 4 and 5)."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from unirae.app.inputs.labels import check_labels
from unirae.app.run import builders
from unirae.app.run.builders import Config
from unirae.app.run.latents import cached_latents, check_cache, statistics_of_data, statistics_of_run
from unirae.app.run.mixing import TrainingImages
from unirae.app.run.rae_source import CONVERTED, RaeSource, check_rae_named, find_rae
from unirae.app.run.score_names import recorded_names
from unirae.app.run.stages.base import Stage, scoring
from unirae.app.run.texts import Texts, null_text, open_texts, reads_text
from unirae.core.arguments import called
from unirae.core.differences import flat
from unirae.core.errors import ConfigError, WeightsError
from unirae.evaluation.sampling.settings import SamplerSettings
from unirae.evaluation.scores.metric_set import MetricSources, build_set_metrics, encoder_extractor
from unirae.flow.prediction import Prediction
from unirae.flow.times import TimeDistribution
from unirae.metrics.set_metrics import SetMetric, need_encoder
from unirae.models.checkpoints.reading import Checkpoint
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.build import build_denoiser
from unirae.models.denoisers.config import pair
from unirae.models.encoders.absent import AbsentEncoder
from unirae.models.interop.decoder_weights import is_official
from unirae.models.rae import RAE
from unirae.training.callbacks.samples import GenerationSamples
from unirae.training.callbacks.scoring import GenerationMetrics
from unirae.training.datamodule import TrainingData
from unirae.training.manual import ManualModule
from unirae.training.stage2 import Stage2


class Stage2Stage(Stage):
    """The stage ``model.stage=stage2``."""

    name = "stage2"
    reads = ("samples", "generation_metrics")
    scored_by = "generation_metrics"
    shards = True

    def check(self, cfg: Config) -> None:
        """See :meth:`.base.Stage.check`."""
        check_rae_named(cfg["model"]["rae"])

    def build(
        self, cfg: Config, trainer: pl.Trainer, checkpoint: Checkpoint | None, **own: Any
    ) -> tuple[ManualModule, TrainingData]:
        """See :meth:`.base.Stage.build`."""
        source, cache = find_rae(cfg), cfg["data"]["latent_cache"]
        if cache is not None and need_encoder(cfg["callbacks"]["generation_metrics"]["metrics"]):
            raise ConfigError(
                "callbacks.generation_metrics.metrics has fd or mind_fd: it needs the encoder that data.latent_cache "
                "leaves out; score fid, or nothing with metrics=[]"
            )
        rae = source.load(with_encoder=cache is None)
        # for statistics and the cache
        worded = reads_text(cfg)
        images = builders.training_images(
            cfg, use="stage2", size=rae.output_size, exact=True, captions=worded
        )
        builders.check_batch(cfg, images)
        validation = builders.build_dataset(
            cfg["data"], split="val", size=rae.output_size, use="eval", captions=worded
        )
        class_names = () if worded else images.source.class_names
        _check_guidance(cfg, can_guide=worded or bool(class_names))
        if checkpoint is not None:
            _check_continued(checkpoint, cfg["flow"]["prediction"], worded=worded)
        check_labels(checkpoint, class_names, accept=cfg["ckpt_other_labels"])
        if cache is not None:
            check_cache(cfg, images)
        # before what takes long: a text encoder may be missing
        texts = open_texts(cfg, trainer, checkpoint, images.source, validation.source) if worded else None
        bare = cfg["model"]["rae"]["pretrained_decoder_path"]
        if checkpoint is None and bare is not None and is_official(bare):
            _check_decoder(cfg, rae if cache is None else source.load(), images)
        if checkpoint is not None:
            rae = rae.with_stats(statistics_of_run(checkpoint, rae))
        elif rae.stats.shape is None:
            rae = rae.with_stats(statistics_of_data(rae, images, source=source, cfg=cfg, trainer=trainer))
        if cache is None:
            trained_on = builders.training_images(
                cfg, use="stage2", size=rae.output_size, source=images.source, captions=worded
            )
        else:
            trained_on = cached_latents(cfg, source, rae, images, trainer)
        data = builders.build_data(
            cfg,
            size=rae.output_size,
            trainer=trainer,
            train_dataset=trained_on,
            eval_dataset=validation,
            collate=None if texts is None else texts.collate,
        )
        steps = data.steps_per_epoch
        return build_stage2(cfg, source, rae, class_names, steps_per_epoch=steps, texts=texts), data

    def callbacks(self, cfg: Config, *, output_dir: Path, data: TrainingData) -> list[pl.Callback]:
        """See :meth:`.base.Stage.callbacks`."""
        settings, scores = cfg["callbacks"]["samples"], cfg["callbacks"]["generation_metrics"]
        samples = GenerationSamples(
            folder=output_dir / "samples",
            sample_every=cfg["model"]["sample_every"],
            count=settings["count"],
            **_sampling(settings),
        )
        if not scores["metrics"]:
            return [samples]
        metrics = GenerationMetrics(
            build_metrics=lambda module: _metrics(scores, module),
            **{key: scores[key] for key in ("num_samples", "batch_size")},
            **_sampling(scores),
        )
        return [samples, scoring(cfg, "generation_metrics", metrics, output_dir=output_dir, data=data)]

    def score_names(self, cfg: Config, module: ManualModule | None = None) -> list[str]:
        """See :meth:`.base.Stage.score_names`."""
        encoder = "*"
        if isinstance(module, Stage2) and not isinstance(module.rae.encoder, AbsentEncoder):
            encoder = encoder_extractor(module.rae.encoder).name
        return recorded_names(cfg["callbacks"]["generation_metrics"], encoder=encoder)


def _check_continued(checkpoint: Checkpoint, here: str, *, worded: bool) -> None:
    """Refuse to continue a network as one whose output, or whose condition, means something else."""
    if "text_encoder" in checkpoint.about["dit"] and not worded:
        name = checkpoint.about["dit"]["text_encoder"]["name"]
        raise ConfigError(
            f"{checkpoint.file} continues a run that was conditioned on text; set model.text_encoder.name={name}"
        )
    if worded and "text_encoder" not in checkpoint.about["dit"]:
        raise ConfigError(
            f"{checkpoint.file} continues a run that was conditioned on labels; leave model.text_encoder.name out"
        )
    there = checkpoint.about["dit"].get("prediction", Prediction.VELOCITY.value)
    if there != here:
        raise ConfigError(
            f"{checkpoint.file} continues a run whose network predicts {there}; set flow.prediction={there}"
        )


def _metrics(settings: Config, module: Stage2) -> list[SetMetric]:
    """The metrics of the run, which may load large networks."""
    rae = module.rae
    absent = isinstance(rae.encoder, AbsentEncoder)
    sources = MetricSources(
        device=module.device,
        inception_weights=settings["inception_weights"],
        encoder=None if absent else encoder_extractor(rae.encoder, rae.encoder_input_size),
    )
    with called({"metrics.": "callbacks.generation_metrics."}):
        return build_set_metrics(settings["metrics"], sources)


def _check_decoder(cfg: Config, rae: RAE, images: TrainingImages) -> None:
    """Refuse a bare official decoder that is read as the other version's, and the autoencoder that was made of it."""
    path = cfg["model"]["rae"]["pretrained_decoder_path"]
    try:
        with called({"decoder.": "model.rae.decoder."}):
            builders.check_decoder(rae, images, path)
    except WeightsError:
        shutil.rmtree(Path(cfg["paths"]["output_dir"]) / CONVERTED, ignore_errors=True)
        raise


def build_stage2(
    cfg: Config,
    source: RaeSource,
    rae: RAE,
    class_names: Sequence[str],
    *,
    steps_per_epoch: int,
    texts: Texts | None = None,
) -> Stage2:
    """The training module of stage 2, on an RAE that has its latents' statistics.

    Args:
        class_names: empty without labels.
        texts: of a network that is conditioned on text.
    """
    model, flow = cfg["model"], cfg["flow"]
    return Stage2(
        rae=rae,
        rae_reference=source.reference(rae, checkpoints=Path(cfg["paths"]["output_dir"]) / "checkpoints"),
        denoiser=denoiser_for(cfg, rae, num_classes=len(class_names), texts=texts),
        class_names=class_names,
        time_distribution=TimeDistribution(
            kind=flow["time_distribution"],
            mean=flow["time_mean"],
            std=flow["time_std"],
            high=flow["time_max"],
        ),
        t_min=flow["t_min"],
        base_loss_weight=model["base_loss_weight"],
        time_grid=flow["time_grid"],
        label_dropout=model["label_dropout"],
        ema_extra_decays=model["ema_extra_decays"],
        settings=builders.step_settings(cfg, steps_per_epoch=steps_per_epoch),
        encode_texts=None if texts is None else texts.encode,
        text_encoder=None if texts is None else texts.encoder,
    )


def denoiser_for(cfg: Config, rae: RAE, *, num_classes: int, texts: Texts | None = None) -> Denoiser:
    """A new network whose shapes follow from the autoencoder's latents, and from the text encoder's tokens.

    Raises:
        ConfigError: If a given shape is not that of the latents.
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
        prediction=cfg["flow"]["prediction"],
        latent_stats=rae.stats,
        **({} if texts is None else _of_texts(texts)),
    )


def _of_texts(texts: Texts) -> dict[str, Any]:
    identity = texts.identity
    return {
        "text_width": identity.width,
        "null_text": null_text(texts),
        "text_identity": identity.to_dict(),
    }


def _sampling(node: Config) -> dict[str, Any]:
    """The sampler's settings of a callback that samples."""
    keys = ("num_steps", "cfg_scale", "ig_scale", "ig_unconditional_scale")
    return {**{key: node[key] for key in keys}, "ig_interval": tuple(node["ig_interval"])}


def _check_guidance(cfg: Config, *, can_guide: bool) -> None:
    """Refuse guidance of a network that will know no condition, or have no early head, before anything long begins."""
    callbacks = cfg["callbacks"]
    nodes = ["samples", *(["generation_metrics"] if callbacks["generation_metrics"]["metrics"] else [])]
    sampling = {f"callbacks.{node}": callbacks[node] for node in nodes}
    guided = [f"{name}.cfg_scale" for name, node in sampling.items() if node["cfg_scale"] != 1.0]
    if guided and not can_guide:
        raise ConfigError(
            f"{_given(cfg, guided)}: guidance needs data with labels, and these have none; set {_off(guided)}"
        )
    for name, node in sampling.items():
        low, high = node["ig_interval"]
        if low > high:
            raise ConfigError(f"{name}.ig_interval=[{low:g},{high:g}]: give [low, high] with low <= high")
    inner = [
        f"{name}.{key}"
        for name, node in sampling.items()
        for key in ("ig_scale", "ig_unconditional_scale")
        if SamplerSettings(**_sampling(node)).uses_ig and node[key] not in (None, 1.0)
    ]
    if inner and cfg["model"]["dit"]["base_head_depth"] is None:
        raise ConfigError(
            f"{_given(cfg, inner)}: internal guidance needs a network with an early head, and this one has none; set "
            f"model.dit.base_head_depth, or {_off(inner)}"
        )


def _given(cfg: Config, keys: list[str]) -> str:
    return " and ".join(f"{key}={flat(cfg)[key]}" for key in keys)


def _off(scales: list[str]) -> str:
    return " ".join(f"{key}=1.0" for key in scales)
