"""Put a run together: data, module, trainer and callbacks; then fit it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from unirae.app.inputs.labels import check_labels
from unirae.app.run import builders
from unirae.app.run.builders import Config
from unirae.app.run.own_parts import OwnParts
from unirae.app.run.run_dir import write_run_files
from unirae.app.run.score_names import check_scores, scores_of_run
from unirae.app.run.stages.stage2 import assemble_stage2
from unirae.app.run.trainer import (
    build_callbacks,
    build_trainer,
    check_compile,
    limit,
    resolve_compile,
    resolve_float32_matmul,
    resolve_precision,
)
from unirae.core import stopping
from unirae.core.errors import (
    ConfigError,
    RunFinished,
    RunInterrupted,
    UserError,
    WeightsError,
)
from unirae.core.io import load_tensors
from unirae.core.log import get_logger
from unirae.evaluation.scores.metric_set import (
    MetricSources,
    build_reconstruction_metrics,
    build_set_metrics,
    encoder_extractor,
)
from unirae.evaluation.scores.reconstruction import ReconstructionMetrics
from unirae.metrics.set_metrics import SetMetric
from unirae.models.encoders.absent import AbsentEncoder
from unirae.models.encoders.base import Encoder
from unirae.training.callbacks.graceful_stop import NOTICE, STATE_KEY
from unirae.training.csv_logger import MetricsCsv
from unirae.training.datamodule import TrainingData
from unirae.training.events import callbacks_of
from unirae.training.linear_probe import LinearProbe
from unirae.training.manual import ManualModule
from unirae.training.stage1 import Stage1
from unirae.training.stage2 import Stage2

log = get_logger(__name__)


@dataclass
class Run:
    """A run that is ready to be fitted."""

    trainer: pl.Trainer
    module: ManualModule
    data: TrainingData
    checkpoint: Path | None
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def has_begun(self) -> bool:
        """Whether it has made a step, or goes on after some."""
        return self.trainer.global_step > 0

    def fit(self) -> None:
        """Train to the end; the last scores are then in ``scores``.

        Raises:
            RunInterrupted: If the process was asked to stop; the message says what is saved.
        """
        callbacks_of(self.trainer).append(_KeepScores(self.scores))
        try:
            with stopping.listening(), stopping.deferred(NOTICE):
                self.trainer.fit(self.module, datamodule=self.data, ckpt_path=self.checkpoint)
        except KeyboardInterrupt:
            raise RunInterrupted(
                f"interrupted at the end: the run is finished (step {self.trainer.global_step}) and saved"
            ) from None
        except Exception as error:
            if isinstance(error, UserError) or not stopping.requested():
                raise
            log.debug("while stopping", exc_info=True)  # such as a compiler that ended by the same signal
            kept = (
                f"{self.module.last_checkpoint} is whole"
                if self.module.last_checkpoint
                else "nothing is saved"
            )
            raise RunInterrupted(
                f"interrupted; the step after {self.trainer.global_step} could not be finished "
                f"({type(error).__name__}). {kept}: repeat the command, with ckpt_path=last where there is a checkpoint"
            ) from None


def assemble(
    config: dict[str, Any],
    *,
    experiment: str,
    checkpoint: Path | None,
    own: OwnParts | None = None,
) -> Run:
    """Build everything, show what will happen, write the run's files.

    Args:
        own: parts in place of configured ones.
    """
    output_dir = Path(config["paths"]["output_dir"])
    stage = config["model"]["stage"]
    parts = (own or OwnParts()).of_run(config, experiment)
    if checkpoint is not None:
        check_checkpoint(checkpoint, stage)
    config["trainer"]["precision"] = resolve_precision(config["trainer"], checkpoint)
    config["trainer"]["float32_matmul"] = resolve_float32_matmul(config["trainer"], checkpoint)
    torch.set_float32_matmul_precision(config["trainer"]["float32_matmul"])
    pl.seed_everything(config["seed"], verbose=False)
    trainer = build_trainer(config, output_dir=output_dir)
    check_compile(config["trainer"], trainer)

    if stage not in STAGES:
        raise ConfigError(f"model.stage={stage} is unknown; choose one of {', '.join(STAGES)}")
    check_scores(config, scores_of_run(config))
    module, data = STAGES[stage](config, trainer, checkpoint, **parts)
    scores = _scores_of(config, module)
    check_scores(config, scores)
    max_steps = builders.total_steps(config["trainer"], steps_per_epoch=data.steps_per_epoch)
    start = 0 if checkpoint is None else _step_to_continue(checkpoint, max_steps=max_steps)
    limit(trainer, max_steps=max_steps)
    config["trainer"]["compile"] = resolve_compile(config["trainer"], trainer, max_steps=max_steps)
    callbacks_of(trainer).extend(
        build_callbacks(
            config,
            output_dir=output_dir,
            experiment=experiment,
            data=data,
            build_metrics=_metrics_builder(config),
            scores=scores,
        )
    )
    if checkpoint is not None:
        module.last_checkpoint = str(checkpoint)
    if trainer.is_global_zero:  # there is no process group to ask yet
        announce(module, data, max_steps=max_steps, output_dir=output_dir)
        write_run_files(output_dir, config=config, experiment=experiment)
        if checkpoint:
            log.info("continuing after step %d of %s", start, checkpoint)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.start_from(start)
    return Run(trainer, module, data, checkpoint)


def _stage0(
    config: Config, trainer: pl.Trainer, checkpoint: Path | None
) -> tuple[ManualModule, TrainingData]:
    size = config["model"]["architecture"]["image_size"]
    data = builders.build_data(config, size=size, trainer=trainer)
    return builders.build_mae(config, steps_per_epoch=data.steps_per_epoch), data


def _stage1(
    config: Config,
    trainer: pl.Trainer,
    checkpoint: Path | None,
    *,
    encoder: Encoder | None = None,
    perceptual: nn.Module | None = None,
) -> tuple[ManualModule, TrainingData]:
    model = config["model"]
    if checkpoint is not None:  # which replaces all weights: where they once started from may be gone
        model = {**model, "pretrained_decoder_path": None}
    rae = builders.build_rae(model, seed=config["seed"], encoder=encoder)
    data = builders.build_data(config, size=rae.output_size, trainer=trainer)
    return builders.build_stage1(
        config, rae, steps_per_epoch=data.steps_per_epoch, perceptual=perceptual
    ), data


def _linear_probe(
    config: Config, trainer: pl.Trainer, checkpoint: Path | None, *, encoder: Encoder | None = None
) -> tuple[ManualModule, TrainingData]:
    data = builders.build_data(config, size=config["model"]["image_size"], trainer=trainer)
    module = builders.build_linear_probe(config, data, encoder=encoder)
    check_labels(checkpoint, module.class_names, accept=config["ckpt_other_labels"])
    return module, data


STAGES = {"mae": _stage0, "stage1": _stage1, "stage2": assemble_stage2, "linear_probe": _linear_probe}


def check_checkpoint(checkpoint: Path, stage: str) -> None:
    """Refuse to continue from a checkpoint of another kind, before anything is built.

    Raises:
        WeightsError: it is damaged or was made by another stage.
    """
    try:
        about = load_tensors(checkpoint).get("unirae")
    except WeightsError as error:
        raise WeightsError(f"ckpt_path={error}") from None
    if about is None:
        raise WeightsError(
            f"ckpt_path={checkpoint} was not written by unirae's training; such runs only can be continued"
        )
    if about["kind"] != stage:
        raise WeightsError(
            f"ckpt_path={checkpoint} is a checkpoint of kind {about['kind']!r}; this experiment trains {stage!r}. "
            "Continue it with the experiment that made it"
        )


def _step_to_continue(checkpoint: Path, *, max_steps: int) -> int:
    """The step that a checkpoint was saved after.

    Raises:
        RunFinished: If no step is left, and nothing that belongs to the last one.
    """
    content = load_tensors(checkpoint)
    step = content["global_step"]
    left = content["callbacks"].get(STATE_KEY, {}).get("left")
    if step < max_steps or (step == max_steps and left):
        return step
    beyond = "" if step == max_steps else f", beyond the {max_steps} steps that are asked for"
    raise RunFinished(
        f"finished at step {step}{beyond}: {checkpoint} stays as it is; to go on, set trainer.max_steps (and "
        "trainer.max_epochs, where it is set) to more"
    )


def _scores_of(config: dict[str, Any], module: ManualModule) -> list[str]:
    """The names of the scores that a run will have, now that its encoder and its classes are known."""
    if isinstance(module, LinearProbe):
        return scores_of_run(config, num_classes=len(module.class_names))
    if isinstance(module, Stage1 | Stage2) and not isinstance(module.rae.encoder, AbsentEncoder):
        return scores_of_run(config, encoder=encoder_extractor(module.rae.encoder).name)
    return scores_of_run(config)


def announce(module: ManualModule, data: TrainingData, *, max_steps: int, output_dir: Path) -> None:
    """Say what will be trained, on what, for how long: schedules in epochs resolved to steps (recipe, trap 12)."""
    log.info("run folder: %s", output_dir)
    for name, count, trainable in builders.parameter_summary(module):
        trained = f", {readable_count(trainable)} trainable" if trainable else ", frozen"
        log.info("%-15s %10s parameters%s", name, readable_count(count), trained)
    epochs = max_steps / data.steps_per_epoch
    log.info(
        "%d training images, batch %d: %d steps an epoch; %d steps = %.4g epochs",
        len(data.train_dataset),
        data.global_batch_size,
        data.steps_per_epoch,
        max_steps,
        epochs,
    )
    for line in module.plan():
        log.info(line)
    for line in module.cautions(max_steps):
        log.warning(line)


def readable_count(count: int) -> str:
    """``172 M``-like: three digits and a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            value = count / size
            return f"{value:.2f} {unit}" if value < 1000 else f"{value:.0f} {unit}"
    return str(count)


def _metrics_builder(config: dict[str, Any]) -> Any:
    """A function from the module to what it is scored with; called late, since it may load large networks."""
    callbacks = config["callbacks"]

    def of_reconstructions(module: Stage1) -> ReconstructionMetrics:
        settings = callbacks["reconstruction_metrics"]
        sources = MetricSources(
            device=module.device,
            inception_weights=settings["inception_weights"],
            lpips_weights=settings["lpips_weights"],
            encoder=encoder_extractor(module.rae.encoder, module.rae.encoder_input_size),
            options="callbacks.reconstruction_metrics.",
        )
        return build_reconstruction_metrics(settings["metrics"], sources)

    def of_samples(module: Stage2) -> list[SetMetric]:
        settings, rae = callbacks["generation_metrics"], module.rae
        absent = isinstance(rae.encoder, AbsentEncoder)
        sources = MetricSources(
            device=module.device,
            inception_weights=settings["inception_weights"],
            encoder=None if absent else encoder_extractor(rae.encoder, rae.encoder_input_size),
            options="callbacks.generation_metrics.",
        )
        return build_set_metrics(settings["metrics"], sources)

    return of_samples if config["model"]["stage"] == "stage2" else of_reconstructions


class _KeepScores(pl.Callback):
    """Remembers the newest scores, for sweepers."""

    def __init__(self, scores: dict[str, float]) -> None:
        self._scores = scores

    def on_scores(self, trainer: pl.Trainer, module: pl.LightningModule, scores: dict[str, float]) -> None:
        self._scores.update(scores)
