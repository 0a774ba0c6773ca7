"""Pictures while training: originals beside their reconstructions, or samples of the same noise and labels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jaxtyping import UInt8
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from unirae.core.distributed import is_main
from unirae.core.images import image_grid, save_png, to_float, to_uint8
from unirae.evaluation.sampling.image_sampler import ImageSampler
from unirae.evaluation.sampling.requests import LabelRule, spread_labels
from unirae.evaluation.sampling.settings import SamplerSettings
from unirae.flow.guidance import ALWAYS
from unirae.models.denoisers.base import Denoiser
from unirae.training.callbacks.after_step import AfterStep
from unirae.training.events import evaluation_data, is_due
from unirae.training.stage1 import Stage1
from unirae.training.stage2 import Stage2

_MOST_AT_ONCE = 16
_COLUMNS = 8


class _Pictures(AfterStep):
    """Base of the callbacks that draw a grid every ``sample_every`` steps, and after the first and the last.

    Args:
        folder: where ``step-NNNNNNN.png`` goes (``samples/`` of the run).
        sample_every: interval in steps.
        count: number of images.
    """

    name: str
    """Name of the pictures in TensorBoard."""

    def __init__(self, *, folder: str | Path, sample_every: int, count: int) -> None:
        self.folder, self.sample_every, self.count = Path(folder), sample_every, count

    def is_due_now(self, trainer: pl.Trainer) -> bool:
        """True when samples are due, and after the first and the last step."""
        step = trainer.global_step
        return is_due(step, self.sample_every) or step in (1, trainer.max_steps)

    def write(self, trainer: pl.Trainer, grid: UInt8[Tensor, "3 h w"]) -> None:
        """Write the grid of this step into the folder, and show it to TensorBoard."""
        step = trainer.global_step
        save_png(self.folder / f"step-{step:07d}.png", grid)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(self.name, grid.numpy(), step)


class ReconstructionSamples(_Pictures):
    """Pictures of stage 1: originals, spread over the validation split, above their EMA reconstructions."""

    name = "val/reconstructions"

    def work(self, trainer: pl.Trainer, module: Stage1) -> None:
        """Draw, in the first process."""
        if is_main():
            self.write(trainer, self.draw(trainer, module))

    @torch.no_grad()
    def draw(self, trainer: pl.Trainer, module: Stage1) -> UInt8[Tensor, "3 h w"]:
        """Draw two rows: originals, reconstructions."""
        data = evaluation_data(trainer)
        count = min(self.count, len(data))
        originals = torch.stack([data[i * len(data) // count]["image"] for i in range(count)])
        reconstructed = to_uint8(module.ema_rae()(to_float(originals.to(module.device)))).cpu()
        return image_grid(torch.cat([originals, reconstructed]), columns=count)


class GenerationSamples(_Pictures):
    """Pictures of stage 2: samples of the EMA weights, whose labels go round the classes or are spread over them.

    Args:
        num_steps: points of the sampler's time grid.
        cfg_scale: strength of classifier-free guidance; 1 is without.
        ig_scale, ig_interval, ig_unconditional_scale: internal guidance, as of
            :class:`~unirae.evaluation.sampling.settings.SamplerSettings`.
        pictures: arguments of every callback that draws.
    """

    name = "val/samples"

    def __init__(
        self,
        *,
        num_steps: int,
        cfg_scale: float,
        ig_scale: float = 1.0,
        ig_interval: tuple[float, float] = ALWAYS,
        ig_unconditional_scale: float | None = None,
        **pictures: Any,
    ) -> None:
        super().__init__(**pictures)
        self.settings = SamplerSettings(
            num_steps=num_steps,
            cfg_scale=cfg_scale,
            ig_scale=ig_scale,
            ig_interval=ig_interval,
            ig_unconditional_scale=ig_unconditional_scale,
        )

    def work(self, trainer: pl.Trainer, module: Stage2) -> None:
        """Draw, in the first process."""
        module.guard.check(module.last_checkpoint)  # its message names the step and the terms
        with module.whole_average() as average:
            if is_main():
                self.write(trainer, self.draw(module, average))

    def draw(self, module: Stage2, average: Denoiser) -> UInt8[Tensor, "3 h w"]:
        """The grid, in rows of at most 8."""
        classes = module.denoiser.num_classes
        sampler = ImageSampler(
            dit=average,
            rae=module.rae,
            settings=replace(self.settings, time_grid=module.time_grid),
            rule=LabelRule(num_classes=classes, given=spread_labels(self.count, classes)),
            seed=module.seed,
            batch_size=min(self.count, _MOST_AT_ONCE),
        )
        images = sampler(torch.arange(self.count, device=module.device)).cpu()
        return image_grid(images, columns=min(self.count, _COLUMNS))
