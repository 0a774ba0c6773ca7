"""Reconstruction scores of the EMA weights while training."""

from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl

from unirae.evaluation.passes.reading import describe_data
from unirae.evaluation.scores.reconstruction import ReconstructionMetrics as Metrics
from unirae.evaluation.scores.reconstruction import evaluate_reconstruction
from unirae.training.callbacks.after_step import AfterStep
from unirae.training.events import (
    announce_scoring,
    count_within_split,
    evaluation_data,
    is_due,
    record_scores,
)
from unirae.training.stage1 import Stage1


class ReconstructionMetrics(AfterStep):
    """Scores the validation split every N steps, and once at the end; writes ``eval/step-*.json``.

    Args:
        build_metrics: makes fresh streaming metrics for the module (they may need its encoder); called at the start, so
            that missing weights do not show after hours.
        folder: where the JSON files go.
        every_n_steps: interval in steps; null means at the end only.
        num_samples: how many validation images, a seeded random subset; null or more than there are means all.
        batch_size: images at a time; no score depends on it.
    """

    def __init__(
        self,
        *,
        build_metrics: Callable[[Stage1], Metrics],
        folder: str | Path,
        every_n_steps: int | None,
        num_samples: int | None,
        batch_size: int,
    ) -> None:
        self.build_metrics, self.folder = build_metrics, Path(folder)
        self.every_n_steps, self.num_samples, self.batch_size = every_n_steps, num_samples, batch_size

    def on_train_start(self, trainer: pl.Trainer, module: Stage1) -> None:
        """Load what is needed, or say what is missing."""
        key = "callbacks.reconstruction_metrics.num_samples"
        self.num_samples = count_within_split(trainer, self.num_samples, key=key)
        self._metrics = self.build_metrics(module)

    def is_due_now(self, trainer: pl.Trainer) -> bool:
        """When it is time, and after the last step."""
        step = trainer.global_step
        return is_due(step, self.every_n_steps) or step == trainer.max_steps

    def work(self, trainer: pl.Trainer, module: Stage1) -> None:
        """Reconstruct the split with the EMA decoder and publish the scores."""
        module.guard.check(module.last_checkpoint)  # its message names the step and the terms
        data = evaluation_data(trainer)
        announce_scoring(trainer, f"{self.num_samples} reconstructions")
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
            progress=self.leave_if_asked,
        )
        record_scores(trainer, module, result, folder=self.folder)
