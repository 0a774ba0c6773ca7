"""Stage 1: the decoder of a representation autoencoder, on a frozen encoder (RAE paper, section 3)."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import nn

from unirae.app.config.targets import build
from unirae.app.run import builders
from unirae.app.run.builders import Config
from unirae.app.run.score_names import recorded_names
from unirae.app.run.stages.base import Stage, scoring
from unirae.core.arguments import called
from unirae.core.differences import differences, shortened
from unirae.core.errors import ConfigError
from unirae.evaluation.scores import reconstruction
from unirae.evaluation.scores.metric_set import (
    MetricSources,
    build_reconstruction_metrics,
    encoder_extractor,
)
from unirae.evaluation.scores.record import name_of_reconstructions
from unirae.losses.adversarial import discriminator_loss
from unirae.models.checkpoints.reading import Checkpoint
from unirae.models.decoder import OF_OLDER_RECORDS
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.identity import EncoderIdentity
from unirae.models.rae import RAE
from unirae.training.adversary import Adversary
from unirae.training.callbacks.samples import ReconstructionSamples
from unirae.training.callbacks.scoring import ReconstructionMetrics
from unirae.training.datamodule import TrainingData
from unirae.training.manual import ManualModule
from unirae.training.schedule import resolve_steps
from unirae.training.stage1 import Stage1


class Stage1Stage(Stage):
    """The stage ``model.stage=stage1``."""

    name = "stage1"
    own_parts = ("encoder", "perceptual")
    reads = ("samples.count", "reconstruction_metrics")
    scored_by = "reconstruction_metrics"
    monitor = "val/psnr"

    def build(
        self,
        cfg: Config,
        trainer: pl.Trainer,
        checkpoint: Checkpoint | None,
        *,
        encoder: Encoder | None = None,
        perceptual: nn.Module | None = None,
        **own: Any,
    ) -> tuple[ManualModule, TrainingData]:
        """See :meth:`.base.Stage.build`."""
        model = cfg["model"]
        if checkpoint is not None:  # which replaces all weights: where they once started from may be gone
            model = {**model, "pretrained_decoder_path": None}
        rae = builders.build_rae(model, seed=cfg["seed"], encoder=encoder)
        if checkpoint is not None:
            check_same_rae(checkpoint, rae)
        data = builders.build_data(cfg, size=rae.output_size, trainer=trainer)
        builders.check_decoder(rae, data.train_dataset, model["pretrained_decoder_path"])
        return build_stage1(cfg, rae, steps_per_epoch=data.steps_per_epoch, perceptual=perceptual), data

    def callbacks(self, cfg: Config, *, output_dir: Path, data: TrainingData) -> list[pl.Callback]:
        """See :meth:`.base.Stage.callbacks`."""
        scores = cfg["callbacks"]["reconstruction_metrics"]
        samples = ReconstructionSamples(
            folder=output_dir / "samples",
            sample_every=cfg["model"]["sample_every"],
            count=cfg["callbacks"]["samples"]["count"],
        )
        metrics = ReconstructionMetrics(
            build_metrics=lambda module: _metrics(scores, module),
            num_samples=scores["num_samples"],
            batch_size=scores["batch_size"],
        )
        return [samples, scoring(cfg, "reconstruction_metrics", metrics, output_dir=output_dir, data=data)]

    def score_names(self, cfg: Config, module: ManualModule | None = None) -> list[str]:
        """See :meth:`.base.Stage.score_names`."""
        known = isinstance(module, Stage1)
        encoder = encoder_extractor(module.rae.encoder).name if known else "*"
        settings = cfg["callbacks"]["reconstruction_metrics"]
        names = [name_of_reconstructions(name) for name in settings["metrics"]]
        return recorded_names({**settings, "metrics": names}, encoder=encoder)


def check_same_rae(checkpoint: Checkpoint, rae: RAE) -> None:
    """Refuse to continue a run with an encoder that reads other tokens, or a decoder of another space.

    Raises:
        ConfigError: If they differ from the recorded ones; the message names how.
    """
    said = checkpoint.about["rae"]
    there, here = EncoderIdentity.from_dict(said["encoder"]).decisive(), rae.encoder.identity.decisive()
    both = (
        there["architecture"].keys() & here["architecture"].keys()
    )  # one more is of another version of a library
    for encoder in (there, here):
        encoder["architecture"] = {key: encoder["architecture"][key] for key in both}
    decoders = (
        {**OF_OLDER_RECORDS, **said["decoder"], "grid": list(said["decoder"]["grid"])},
        {**rae.decoder.architecture, "grid": list(rae.decoder.grid)},
    )
    found = [*differences(there, here, name="model.encoder"), *differences(*decoders, name="model.decoder")]
    if found:
        raise ConfigError(
            f"{checkpoint.file} continues a run whose autoencoder was another: "
            + "; ".join(f"{d.name} {shortened(d.first)} there, {shortened(d.second)} here" for d in found)
            + ". Repeat the keys of that run"
        )


def _metrics(settings: Config, module: Stage1) -> reconstruction.ReconstructionMetricSet:
    """The metrics of the run, which may load large networks."""
    sources = MetricSources(
        device=module.device,
        inception_weights=settings["inception_weights"],
        lpips_weights=settings["lpips_weights"],
        encoder=encoder_extractor(module.rae.encoder, module.rae.encoder_input_size),
    )
    with called({"metrics.": "callbacks.reconstruction_metrics."}):
        return build_reconstruction_metrics(settings["metrics"], sources)


def build_stage1(
    cfg: Config, rae: RAE, *, steps_per_epoch: int, perceptual: nn.Module | None = None
) -> Stage1:
    """The training module of stage 1, with the given perceptual loss in place of the configured one."""
    model = cfg["model"]
    if perceptual is None and model["perceptual_weight"]:
        perceptual = build(model["perceptual"], encoder=rae.encoder)
    return Stage1(
        rae=rae,
        perceptual=perceptual,
        perceptual_weight=model["perceptual_weight"],
        adversary=build_adversary(model, steps_per_epoch=steps_per_epoch) if model["disc_weight"] else None,
        settings=builders.step_settings(cfg, steps_per_epoch=steps_per_epoch),
    )


def build_adversary(model: Config, *, steps_per_epoch: int) -> Adversary:
    """The discriminator, its optimizer and its place in time."""

    def start(name: str) -> int:
        return resolve_steps(
            epochs=model[f"{name}_epoch"],
            steps=model[f"{name}_step"],
            steps_per_epoch=steps_per_epoch,
            name=f"model.{name}",
        )

    return Adversary(
        discriminator=build(model["discriminator"]),
        optimizer=builders.build_optimizer(model, "disc_optimizer"),
        schedule=builders.build_schedule(
            model, "disc_scheduler", "disc_optimizer", steps_per_epoch=steps_per_epoch
        ),
        disc_weight=model["disc_weight"],
        update_start_step=start("disc_upd_start"),
        gan_start_step=start("disc_start"),
        clip_grad=model["disc_clip_grad"],
        loss=discriminator_loss(model["disc_loss"]),
        max_adaptive_weight=model["max_adaptive_weight"],
        fixed_adaptive_weight=model["fixed_adaptive_weight"],
        augment=model["augment"],
    )
