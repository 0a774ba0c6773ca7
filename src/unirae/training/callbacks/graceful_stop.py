"""A request to stop loses nothing: end the step, save, say how to continue."""

from typing import Any

import lightning.pytorch as pl

from unirae.core.arguments import argument
from unirae.core.errors import RunInterrupted
from unirae.core.stopping import before_first_step
from unirae.training.callbacks.after_step import AfterStep, stop_requested
from unirae.training.callbacks.model_checkpoint import ModelCheckpoint
from unirae.training.events import callbacks_of
from unirae.training.manual import ManualModule

NOTICE = "stopping after this step; press ctrl-C again to stop at once without saving"
"""Line of a run that hears of a request to stop."""


class GracefulStop(pl.Callback):
    """Stop on request (:mod:`unirae.core.stopping`): let the running step end, save ``last.ckpt``, leave.

    The last of the callbacks. Its part of a checkpoint says which of the others left their work after that step.
    """

    def __init__(self) -> None:
        self._trainer: pl.Trainer | None = None
        self._left: list[str] = []

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Leave again, or do first the work that the former part of the run left."""
        self._trainer = trainer
        for callback in _that_work(trainer):
            callback.is_left = callback.work_name in self._left
        if stop_requested(trainer):
            raise RunInterrupted(before_first_step(module.last_checkpoint))
        for callback in _that_work(trainer):
            if callback.is_left:
                callback.work_unless_asked_to_stop(trainer, module)
        if stop_requested(trainer):
            raise RunInterrupted(before_first_step(module.last_checkpoint))

    def on_train_batch_end(self, trainer: pl.Trainer, module: ManualModule, *args: Any) -> None:
        """Save and leave if asked to; every process decides together. A run with nothing left to do ends by itself."""
        nothing_left = trainer.global_step == trainer.max_steps and not left_work(trainer)
        if not stop_requested(trainer) or nothing_left:
            return
        for callback in callbacks_of(trainer):
            if isinstance(callback, ModelCheckpoint):
                path = callback.save_last(trainer, module)
                raise RunInterrupted(
                    f"interrupted after step {trainer.global_step}; everything is saved in {path}. To continue, "
                    f"repeat the command with {argument('ckpt_path', 'last')} "
                    f"{argument('run.output_dir', path.parent.parent)}"
                )
        raise RunInterrupted(f"interrupted after step {trainer.global_step}; this run saves no checkpoints")

    def state_dict(self) -> dict[str, Any]:
        """Work that is left to do after the step of this checkpoint."""
        return {"left": [] if self._trainer is None else left_work(self._trainer)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the work that was left."""
        self._left = state_dict["left"]

    @property
    def state_key(self) -> str:
        """Name of the callback in a checkpoint."""
        return STATE_KEY


STATE_KEY = "graceful_stop"


def left_work(trainer: pl.Trainer) -> list[str]:
    """The callbacks whose work after the last step is still to be done, by name."""
    return [callback.work_name for callback in _that_work(trainer) if callback.is_left]


def _that_work(trainer: pl.Trainer) -> list[AfterStep]:
    return [callback for callback in callbacks_of(trainer) if isinstance(callback, AfterStep)]
