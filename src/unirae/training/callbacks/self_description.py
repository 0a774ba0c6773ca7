"""Self-description of checkpoints and loggers: the model, its configuration, version and commit."""

from typing import Any

import lightning.pytorch as pl

from unirae.core.version import __version__
from unirae.training.manual import ManualModule


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
