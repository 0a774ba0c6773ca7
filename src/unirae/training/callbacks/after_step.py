"""Base of scores and pictures, which follow some steps and take longer than one."""

from typing import Any

import lightning.pytorch as pl

from unirae.core import stopping
from unirae.core.distributed import world_size


class _LeftForLater(Exception):
    """Raised in the middle of work that the next part of the run will do."""


class AfterStep(pl.Callback):
    """Base of the callbacks that work after some steps.

    Once a stop is requested they leave their work, also what they are in the middle of; checkpoints say so
    (:class:`~unirae.training.callbacks.graceful_stop.GracefulStop`), and the run that continues does it first. Several
    processes begin together or not at all, and then end what they began: each may hear of the request at another time.
    """

    is_left = False
    """True while the work of the last step is still to be done."""

    @property
    def work_name(self) -> str:
        """The name of the work, by which a checkpoint says that it is left."""
        return type(self).__name__

    def is_due_now(self, trainer: pl.Trainer) -> bool:
        """Say whether there is work after the step that just ended; every process answers the same."""
        raise NotImplementedError

    def work(self, trainer: pl.Trainer, module: Any) -> None:
        """Do the work; long loops call :meth:`leave_if_asked`."""
        raise NotImplementedError

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        """Work when due."""
        if self.is_due_now(trainer):
            self.work_unless_asked_to_stop(trainer, module)

    def work_unless_asked_to_stop(self, trainer: pl.Trainer, module: Any) -> None:
        """Do the work, or remember that it is left."""
        self.is_left = stop_requested(trainer)
        if self.is_left:
            return
        try:
            self.work(trainer, module)
        except _LeftForLater:
            self.is_left = True

    @staticmethod
    def leave_if_asked(done: int = 0, total: int = 0) -> None:
        """Leave the work if a stop is requested; has the form of a loop's ``progress``."""
        if stopping.requested() and world_size() == 1:
            raise _LeftForLater


def stop_requested(trainer: pl.Trainer) -> bool:
    """Say whether any of the processes was asked to stop; all of them must ask."""
    return trainer.strategy.reduce_boolean_decision(stopping.requested(), all=False)
