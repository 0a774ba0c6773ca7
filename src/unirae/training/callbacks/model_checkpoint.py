"""Checkpoints of a run: ``last.ckpt`` always, the best by a score, numbered ones if wanted; each describes itself."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from unirae.core.log import get_logger
from unirae.core.version import __version__
from unirae.training.events import is_due
from unirae.training.manual import ManualModule

log = get_logger(__name__)


class ModelCheckpoint(Checkpoint):
    """Saves at step boundaries only, atomically, and never a state that the non-finite guard refuses.

    Args:
        folder: where the files go (``checkpoints/`` of the run).
        every_n_train_steps: interval of ``last.ckpt``, in steps; null saves it at the end only.
        keep_every_n_steps: also keep ``step-NNNNNNN.ckpt`` at this interval; null keeps none.
        monitor: a score such as ``val/psnr`` whose best state is kept as ``best.ckpt``; null keeps none.
        mode: ``max`` or ``min``: which value of ``monitor`` is better.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        every_n_train_steps: int | None,
        keep_every_n_steps: int | None = None,
        monitor: str | None = None,
        mode: str = "max",
    ) -> None:
        self.folder, self.monitor, self.mode = Path(folder), monitor, mode
        self.every_n_train_steps, self.keep_every_n_steps = every_n_train_steps, keep_every_n_steps
        self.best: float | None = None
        self._saved_step = -1

    def on_train_batch_end(self, trainer: pl.Trainer, module: ManualModule, *args: Any) -> None:
        """Save the checkpoints that are due; the last step's state is saved when all else is done that ends a run."""
        step = trainer.global_step
        if is_due(step, self.keep_every_n_steps):
            self._save(trainer, module, f"step-{step:07d}.ckpt")
        if is_due(step, self.every_n_train_steps) and step != trainer.max_steps:
            self.save_last(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Save the final state."""
        self.save_last(trainer, module)

    def on_scores(self, trainer: pl.Trainer, module: ManualModule, scores: dict[str, float]) -> None:
        """Keep the state if its score is the best so far."""
        if self.monitor is None or self.monitor not in scores:
            return
        value = scores[self.monitor]
        if self.best is None or (value > self.best if self.mode == "max" else value < self.best):
            self.best = value
            self._save(trainer, module, "best.ckpt")

    def save_last(self, trainer: pl.Trainer, module: ManualModule) -> Path:
        """Write ``last.ckpt`` unless this step is already in it."""
        if self._saved_step != trainer.global_step:
            self._save(trainer, module, "last.ckpt")
            self._saved_step = trainer.global_step
        return self.folder / "last.ckpt"

    def _save(self, trainer: pl.Trainer, module: ManualModule, name: str) -> None:
        module.guard.check(module.last_checkpoint)
        for logger in trainer.loggers:
            logger.save()  # a killed run must not lose rows that its checkpoint is past
        trainer.save_checkpoint(self.folder / name)
        module.last_checkpoint = str(self.folder / name)
        log.debug("step %d saved to %s", trainer.global_step, self.folder / name)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, so that a resumed run does not overwrite a better state."""
        return {"best": self.best, "monitor": self.monitor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, if it is of the same kind."""
        if state_dict.get("monitor", self.monitor) == self.monitor:  # checkpoints of before do not say
            self.best = state_dict["best"]

    @property
    def state_key(self) -> str:
        """One key, whatever the intervals are: they may change between the parts of a run."""
        return "model_checkpoint"


class SelfDescription(pl.Callback):
    """Adds ``checkpoint["unirae"]``, which is all that sampling and evaluation need beside the weights.

    Loggers that show settings (TensorBoard, W&B) get the configuration.
    """

    def __init__(self, *, config: dict[str, Any], commit: str | None) -> None:
        self.config, self.commit = config, commit

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Hand the configuration to the loggers."""
        for logger in trainer.loggers:
            logger.log_hyperparams(self.config)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: ManualModule, checkpoint: dict[str, Any]
    ) -> None:
        """Tensors and plain values only: the file loads with ``weights_only=True``."""
        checkpoint["unirae"] = {
            "kind": module.kind,
            "version": __version__,
            "commit": self.commit,
            "step": trainer.global_step,
            "config": self.config,
            **module.describe(),
        }
