"""Ctrl-C loses nothing: finish the step, save, say how to continue."""

import signal
import threading
from types import FrameType
from typing import Any

import lightning.pytorch as pl

from unirae.core.errors import RunInterrupted
from unirae.core.log import get_logger
from unirae.training.callbacks.events import callbacks_of
from unirae.training.callbacks.model_checkpoint import ModelCheckpoint
from unirae.training.manual import ManualModule

log = get_logger(__name__)


class GracefulStop(pl.Callback):
    """On SIGINT or SIGTERM: let the running step end, save ``last.ckpt``, leave. A second signal leaves at once."""

    def __init__(self) -> None:
        self._requested: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Listen for the signals (only the main thread can)."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._request) for s in (signal.SIGINT, signal.SIGTERM)}

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._requested is not None:
            self._restore()
            raise KeyboardInterrupt
        self._requested = number
        log.warning("stopping after this step; press ctrl-C again to stop at once without saving")

    def on_train_batch_end(self, trainer: pl.Trainer, module: ManualModule, *args: Any) -> None:
        """Save and leave if asked to; every process decides together."""
        if not trainer.strategy.reduce_boolean_decision(self._requested is not None, all=False):
            return
        for callback in callbacks_of(trainer):
            if isinstance(callback, ModelCheckpoint):
                path = callback.save_last(trainer, module)
                raise RunInterrupted(
                    f"interrupted after step {trainer.global_step}; everything is saved in {path}. To continue, repeat "
                    f"the command with ckpt_path=last paths.output_dir={path.parent.parent}"
                )
        raise RunInterrupted(f"interrupted after step {trainer.global_step}; this run saves no checkpoints")

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._restore()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
