"""Reconstruction scores of the EMA weights while training."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from unirae.core.arguments import argument
from unirae.evaluation.passes.reading import Progress, describe_data
from unirae.evaluation.scores.reconstruction import ReconstructionMetricSet, evaluate_reconstruction
from unirae.training.events import count_within_split, evaluation_data
from unirae.training.stage1 import Stage1


class ReconstructionMetrics:
    """Scores of the validation split's reconstructions, by the EMA decoder.

    Args:
        build_metrics: makes fresh streaming metrics for the module (they may need its encoder).
        num_samples: how many validation images, a seeded random subset; null or more than there are means all.
        batch_size: images at a time; no score depends on it.
    """

    def __init__(
        self,
        *,
        build_metrics: Callable[[Stage1], ReconstructionMetricSet],
        num_samples: int | None,
        batch_size: int,
    ) -> None:
        self.build_metrics, self.num_samples, self.batch_size = build_metrics, num_samples, batch_size

    def prepare(self, trainer: pl.Trainer, module: Stage1) -> str:
        """Load the networks of the metrics."""
        key = argument("reconstruction_metrics.num_samples")
        self.num_samples = count_within_split(trainer, self.num_samples, key=key)
        self._metrics = self.build_metrics(module)
        return f"{self.num_samples} reconstructions"

    def score(self, trainer: pl.Trainer, module: Stage1, progress: Progress) -> dict[str, Any]:
        """Reconstruct the split and compare."""
        data = evaluation_data(trainer)
        result = evaluate_reconstruction(
            module.ema_rae(),
            data,
            metrics=self._metrics,
            batch_size=self.batch_size,
            num_samples=self.num_samples,
            device=module.device,
            num_workers=trainer.datamodule.num_workers,  # pyright: ignore[reportAttributeAccessIssue]
            about={
                "step": trainer.global_step,
                "weights": "EMA",
                "crop": type(data.transform).__name__,
                **describe_data(data),
            },
            progress=progress,
        )
        return result.content()
