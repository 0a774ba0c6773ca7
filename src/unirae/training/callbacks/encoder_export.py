"""Export of the encoder that stage 0 pretrained, to where stage 1 finds it."""

from pathlib import Path

import lightning.pytorch as pl

from unirae.core.distributed import is_main
from unirae.core.log import get_logger
from unirae.core.version import __version__
from unirae.training.mae import MaePretraining

log = get_logger(__name__)


class EncoderExport(pl.Callback):
    """Writes a transformers folder into ``folder`` when training has ended."""

    def __init__(self, *, folder: str | Path, data: str, seed: int) -> None:
        self.folder, self.data, self.seed = Path(folder), data, seed

    def on_train_end(self, trainer: pl.Trainer, module: MaePretraining) -> None:
        """Export the EMA weights, with a record of where they come from."""
        if is_main():
            provenance = {
                "unirae": __version__,
                "trained_by": "MAE pretraining",
                "data": self.data,
                "steps": trainer.global_step,
                "seed": self.seed,
            }
            module.export(self.folder, provenance)
            log.info("encoder written to %s", self.folder)
