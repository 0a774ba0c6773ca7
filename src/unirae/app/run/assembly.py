"""The assembly of a run: data, module, trainer and callbacks; and its fit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from unirae.app.run import builders, mixing
from unirae.app.run.own_parts import OwnParts
from unirae.app.run.run_dir import write_run_files
from unirae.app.run.score_names import check_scores
from unirae.app.run.stages import STAGES
from unirae.app.run.trainer import (
    build_callbacks,
    build_trainer,
    check_compile,
    limit,
    resolve_compile,
    resolve_float32_matmul,
    resolve_num_threads,
    resolve_precision,
)
from unirae.core import stopping
from unirae.core.errors import (
    RunFinished,
    RunInterrupted,
    UserError,
    WeightsError,
)
from unirae.core.log import get_logger
from unirae.data.mix import Mixed
from unirae.models.checkpoints.reading import Checkpoint, open_checkpoint
from unirae.training.callbacks.graceful_stop import NOTICE, STATE_KEY
from unirae.training.csv_logger import MetricsCsv
from unirae.training.datamodule import TrainingData
from unirae.training.events import callbacks_of
from unirae.training.manual import ManualModule

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
        """True where the run has made a step, or continues after some."""
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
        own: the caller's parts in place of configured ones.
    """
    output_dir = Path(config["paths"]["output_dir"])
    stage = STAGES[config["model"]["stage"]]
    mixing.check_sources(config["data"])
    stage.check(config)
    builders.check_data(config["data"])
    parts = (own or OwnParts()).of_run(config, experiment)
    opened = None if checkpoint is None else open_to_continue(checkpoint, stage.name)
    if opened is not None:
        mixing.say_changes(opened.config["data"], config["data"])
    config["trainer"]["precision"] = resolve_precision(config["trainer"], opened)
    config["trainer"]["float32_matmul"] = resolve_float32_matmul(config["trainer"], opened)
    torch.set_float32_matmul_precision(config["trainer"]["float32_matmul"])
    pl.seed_everything(config["seed"], verbose=False)
    trainer = build_trainer(config, output_dir=output_dir, checkpoint=opened)
    config["trainer"]["num_threads"] = resolve_num_threads(
        config["trainer"], opened, processes=trainer.world_size
    )
    torch.set_num_threads(config["trainer"]["num_threads"])
    check_compile(config["trainer"], trainer)

    check_scores(config, stage.score_names(config), default=stage.monitor)
    module, data = stage.build(config, trainer, opened, **parts)
    scores = stage.score_names(config, module)
    check_scores(config, scores, default=stage.monitor)
    max_steps = builders.total_steps(config["trainer"], steps_per_epoch=data.steps_per_epoch)
    start = 0 if opened is None else _step_to_continue(opened, max_steps=max_steps)
    limit(trainer, max_steps=max_steps)
    config["trainer"]["compile"] = resolve_compile(config["trainer"], trainer, max_steps=max_steps)
    callbacks_of(trainer).extend(
        build_callbacks(
            config, stage=stage, output_dir=output_dir, experiment=experiment, data=data, scores=scores
        )
    )
    if checkpoint is not None:
        module.last_checkpoint = str(checkpoint)
    if trainer.is_global_zero:  # there is no process group to ask yet
        announce(module, data, max_steps=max_steps, output_dir=output_dir)
        for key in stage.says_nothing_to(config["changed_keys"]):
            log.info("%s is set, and nothing in %s reads it", key, stage.name)
        write_run_files(output_dir, config=config, experiment=experiment)
        if checkpoint:
            log.info("continuing after step %d of %s", start, checkpoint)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.start_from(start)
    return Run(trainer, module, data, checkpoint)


def open_to_continue(file: Path, stage: str) -> Checkpoint:
    """Read a checkpoint that a run continues, once, before anything is built.

    Raises:
        WeightsError: If the checkpoint is damaged or was made by another stage.
    """
    try:
        checkpoint = open_checkpoint(file, kind=tuple(STAGES), in_memory=True)
    except WeightsError as error:
        raise WeightsError(f"ckpt_path={error}") from None
    if checkpoint.kind != stage:
        raise WeightsError(
            f"ckpt_path={file} is a checkpoint of kind {checkpoint.kind!r}; this experiment trains {stage!r}. Continue "
            "it with the experiment that made it"
        )
    if "global_step" not in checkpoint.content:
        raise WeightsError(
            f"ckpt_path={file} was not written by unirae's training; such runs only can be continued"
        )
    return checkpoint


def _step_to_continue(checkpoint: Checkpoint, *, max_steps: int) -> int:
    """The step that a checkpoint was saved after.

    Raises:
        RunFinished: If no step is left, and no work that belongs to the last step.
    """
    step = checkpoint.step
    assert step is not None  # as of every run
    if step < max_steps or (step == max_steps and checkpoint.state_of(STATE_KEY).get("left")):
        return step
    beyond = "" if step == max_steps else f", beyond the {max_steps} steps that are asked for"
    raise RunFinished(
        f"finished at step {step}{beyond}: {checkpoint.file} stays as it is; to go on, set trainer.max_steps (and "
        "trainer.max_epochs, where it is set) to more"
    )


def announce(module: ManualModule, data: TrainingData, *, max_steps: int, output_dir: Path) -> None:
    """Say what will be trained, on what, for how long: schedules in epochs resolved to steps (recipe, trap 12)."""
    log.info("run folder: %s", output_dir)
    for name, count, trainable in builders.parameter_summary(module):
        trained = f", {readable_count(trainable)} trainable" if trainable else ", frozen"
        log.info("%-15s %10s parameters%s", name, readable_count(count), trained)
    epochs = max_steps / data.steps_per_epoch
    log.info(
        "%d training images, batch %d: %d step%s an epoch; %d step%s in all, %.4g epochs",
        len(data.train_dataset),
        data.global_batch_size,
        *(data.steps_per_epoch, "" if data.steps_per_epoch == 1 else "s"),
        *(max_steps, "" if max_steps == 1 else "s"),
        epochs,
    )
    if isinstance(data.train_dataset, Mixed):
        for line in mixing.mix_in_words(data.train_dataset, data, max_steps=max_steps):
            log.info(line)
    for line in module.plan():
        log.info(line)
    for line in module.cautions(max_steps):
        log.warning(line)


def readable_count(count: int) -> str:
    """A count like ``172 M``: three digits and a unit."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            value = count / size
            return f"{value:.2f} {unit}" if value < 1000 else f"{value:.0f} {unit}"
    return str(count)


class _KeepScores(pl.Callback):
    """A callback that remembers the newest scores, for sweepers."""

    def __init__(self, scores: dict[str, float]) -> None:
        self._scores = scores

    def on_scores(self, trainer: pl.Trainer, module: pl.LightningModule, scores: dict[str, float]) -> None:
        self._scores.update(scores)
