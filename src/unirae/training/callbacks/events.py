"""What callbacks tell one another: scores of the model as it is now."""

from typing import Protocol, runtime_checkable

import lightning.pytorch as pl


@runtime_checkable
class ScoreListener(Protocol):
    """A callback that wants to know the scores that another one computed."""

    def on_scores(self, trainer: pl.Trainer, module: pl.LightningModule, scores: dict[str, float]) -> None:
        """Called on every process after an evaluation, with names such as ``val/psnr``."""


def publish_scores(trainer: pl.Trainer, module: pl.LightningModule, scores: dict[str, float]) -> None:
    """Log scores at the current step and hand them to the listeners."""
    for logger in trainer.loggers:
        logger.log_metrics(scores, trainer.global_step)
    for callback in trainer.callbacks:
        if isinstance(callback, ScoreListener):
            callback.on_scores(trainer, module, scores)


def is_due(step: int, every: int | None) -> bool:
    """Whether something that happens every ``every`` steps happens after this one; null and 0 mean never."""
    return bool(every) and step > 0 and step % every == 0
