"""Pictures while training: fixed validation images beside their reconstructions."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from jaxtyping import UInt8
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from unirae.core.distributed import is_main
from unirae.core.images import image_grid, save_png, to_float, to_uint8
from unirae.training.callbacks.after_step import AfterStep
from unirae.training.events import evaluation_data, is_due
from unirae.training.stage1 import Stage1


class ReconstructionSamples(AfterStep):
    """Every ``sample_every`` steps, and after the first and the last: originals above their EMA reconstructions.

    Args:
        folder: where ``step-NNNNNNN.png`` goes (``samples/`` of the run).
        sample_every: interval in steps.
        count: number of images, spread over the validation split.
    """

    def __init__(self, *, folder: str | Path, sample_every: int, count: int = 8) -> None:
        self.folder, self.sample_every, self.count = Path(folder), sample_every, count

    def is_due_now(self, trainer: pl.Trainer) -> bool:
        """True when samples are due, and after the first and the last step."""
        step = trainer.global_step
        return is_due(step, self.sample_every) or step in (1, trainer.max_steps)

    def work(self, trainer: pl.Trainer, module: Stage1) -> None:
        """Draw, in the first process."""
        step = trainer.global_step
        if is_main():
            grid = self.draw(trainer, module)
            save_png(self.folder / f"step-{step:07d}.png", grid)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("val/reconstructions", grid.numpy(), step)

    @torch.no_grad()
    def draw(self, trainer: pl.Trainer, module: Stage1) -> UInt8[Tensor, "3 h w"]:
        """Draw two rows: originals, reconstructions."""
        data = evaluation_data(trainer)
        count = min(self.count, len(data))
        originals = torch.stack([data[i * len(data) // count]["image"] for i in range(count)])
        reconstructed = to_uint8(module.ema_rae()(to_float(originals.to(module.device)))).cpu()
        return image_grid(torch.cat([originals, reconstructed]), columns=count)
