"""Events between callbacks: scores of the model as it is now."""

from typing import Protocol, runtime_checkable

import lightning.pytorch as pl

from unirae.core.distributed import is_main
from unirae.core.log import get_logger
from unirae.data.dataset import ImageDataset

log = get_logger(__name__)


@runtime_checkable
class ScoreListener(Protocol):
    """A callback that wants to know the scores that another one computed."""

    def on_scores(self, trainer: pl.Trainer, module: pl.LightningModule, scores: dict[str, float]) -> None:
        """Called on every process after an evaluation, with names such as ``val/psnr``."""


def publish_scores(trainer: pl.Trainer, module: pl.LightningModule, scores: dict[str, float]) -> None:
    """Log scores at the current step and hand them to the listeners."""
    for logger in trainer.loggers:
        logger.log_metrics(scores, trainer.global_step)
    for callback in callbacks_of(trainer):
        if isinstance(callback, ScoreListener):
            callback.on_scores(trainer, module, scores)


def is_due(step: int, every: int | None) -> bool:
    """Say whether something that happens every ``every`` steps happens after this one; null and 0 mean never."""
    return bool(every) and step > 0 and step % every == 0


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """The trainer's callbacks, which Lightning sets from elsewhere, unseen by type checkers."""
    return trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]


def evaluation_data(trainer: pl.Trainer) -> ImageDataset:
    """The evaluation split of the run's data module."""
    return trainer.datamodule.eval_dataset  # pyright: ignore[reportAttributeAccessIssue]


def epoch_of(trainer: pl.Trainer) -> float:
    """The epochs that the run has seen, with a fraction of the one that it is in."""
    steps_per_epoch: int = trainer.datamodule.steps_per_epoch  # pyright: ignore[reportAttributeAccessIssue]
    return trainer.global_step / steps_per_epoch


def count_within_split(trainer: pl.Trainer, wanted: int | None, *, key: str) -> int:
    """Number of images that an evaluation takes: ``wanted`` or all, and never more than the evaluation split has.

    Args:
        key: of the configuration, for a line in the log where ``wanted`` is too many.
    """
    there = len(evaluation_data(trainer))
    if wanted is None or wanted <= there:
        return there if wanted is None else wanted
    if is_main():
        log.info("%s=%d, but the validation split has %d images: %d are scored", key, wanted, there, there)
    return there


def logs_now(trainer: pl.Trainer) -> bool:
    """Say whether the step that just ended is logged: every ``log_every_n_steps``, and the last."""
    every: int = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
    return trainer.global_step % every == 0 or trainer.global_step == trainer.max_steps
