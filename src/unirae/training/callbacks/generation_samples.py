"""Pictures while training stage 2: the same noise and labels, drawn by the network as it is now."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from jaxtyping import UInt8
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from unirae.core.distributed import is_main
from unirae.core.images import image_grid, save_png
from unirae.evaluation.sampling.image_sampler import ImageSampler, LabelRule, spread_labels
from unirae.evaluation.sampling.sampler import SamplerSettings
from unirae.models.denoisers.base import Denoiser
from unirae.training.callbacks.after_step import AfterStep
from unirae.training.events import is_due
from unirae.training.stage2 import Stage2

_MOST_AT_ONCE = 16
_COLUMNS = 8


class GenerationSamples(AfterStep):
    """Every ``sample_every`` steps, and after the first and the last: a grid of samples of the EMA weights.

    Args:
        folder: where ``step-NNNNNNN.png`` goes (``samples/`` of the run).
        sample_every: interval in steps.
        count: number of images; their labels go round the classes, or are spread over them if there are more.
        num_steps: points of the sampler's time grid.
        cfg_scale: strength of classifier-free guidance; 1 is without.
    """

    def __init__(
        self, *, folder: str | Path, sample_every: int, count: int, num_steps: int, cfg_scale: float
    ) -> None:
        self.folder, self.sample_every, self.count = Path(folder), sample_every, count
        self.settings = SamplerSettings(num_steps=num_steps, cfg_scale=cfg_scale)

    def is_due_now(self, trainer: pl.Trainer) -> bool:
        """True when samples are due, and after the first and the last step."""
        step = trainer.global_step
        return is_due(step, self.sample_every) or step in (1, trainer.max_steps)

    def work(self, trainer: pl.Trainer, module: Stage2) -> None:
        """Draw, in the first process."""
        step = trainer.global_step
        module.guard.check(module.last_checkpoint)  # its message names the step and the terms
        with module.whole_average() as average:
            if not is_main():
                return
            grid = self.draw(module, average)
            save_png(self.folder / f"step-{step:07d}.png", grid)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("val/samples", grid.numpy(), step)

    def draw(self, module: Stage2, average: Denoiser) -> UInt8[Tensor, "3 h w"]:
        """The grid, in rows of at most 8."""
        classes = module.denoiser.num_classes
        sampler = ImageSampler(
            dit=average,
            rae=module.rae,
            settings=self.settings,
            labels=LabelRule(num_classes=classes, given=spread_labels(self.count, classes)),
            seed=module.seed,
            batch_size=min(self.count, _MOST_AT_ONCE),
        )
        images = sampler(torch.arange(self.count, device=module.device)).cpu()
        return image_grid(images, columns=min(self.count, _COLUMNS))
