"""Fréchet scores of samples of the EMA weights while training stage 2."""

from collections.abc import Callable, Sequence
from pathlib import Path

import lightning.pytorch as pl

from unirae.core.cache import cache_dir
from unirae.evaluation.references.reference import Reference, reference_from_data
from unirae.evaluation.references.reference_cache import cached_reference
from unirae.evaluation.sampling.image_sampler import ImageSampler, LabelRule
from unirae.evaluation.sampling.sampler import SamplerSettings
from unirae.evaluation.scores.generation import evaluate_generation
from unirae.evaluation.scores.record import Scores
from unirae.metrics.set_metrics import SetMetric, needs
from unirae.models.denoisers.base import Denoiser
from unirae.training.callbacks.after_step import AfterStep
from unirae.training.events import (
    announce_scoring,
    count_within_split,
    evaluation_data,
    is_due,
    record_scores,
)
from unirae.training.stage2 import Stage2


class GenerationMetrics(AfterStep):
    """Samples every N steps, and once at the end, against the validation split; writes ``eval/step-*.json``.

    The samples' noise and labels are the same every time, so that scores of one run differ by its weights alone. The
    reference is computed once.

    Args:
        build_metrics: makes the metrics for the module (they may need its encoder); called at the start, so that
            missing weights do not show after hours.
        folder: where the JSON files go.
        every_n_steps: interval in steps; null means at the end only.
        num_samples: images to sample; labels go round the classes. Never more than the split has: a Fréchet distance
            says most at equal counts.
        batch_size: images at a time.
        num_steps: points of the sampler's time grid.
        cfg_scale: strength of classifier-free guidance; 1 is without.
    """

    def __init__(
        self,
        *,
        build_metrics: Callable[[Stage2], Sequence[SetMetric]],
        folder: str | Path,
        every_n_steps: int | None,
        num_samples: int,
        batch_size: int,
        num_steps: int,
        cfg_scale: float,
    ) -> None:
        self.build_metrics, self.folder = build_metrics, Path(folder)
        self.every_n_steps, self.num_samples, self.batch_size = every_n_steps, num_samples, batch_size
        self.settings = SamplerSettings(num_steps=num_steps, cfg_scale=cfg_scale)
        self._metrics: Sequence[SetMetric] = ()
        self._reference: Reference | None = None

    def on_train_start(self, trainer: pl.Trainer, module: Stage2) -> None:
        """Load what is needed, or say what is missing."""
        key = "callbacks.generation_metrics.num_samples"
        self.num_samples = count_within_split(trainer, self.num_samples, key=key)
        self._metrics = self.build_metrics(module)

    def is_due_now(self, trainer: pl.Trainer) -> bool:
        """When it is time, and after the last step."""
        step = trainer.global_step
        return is_due(step, self.every_n_steps) or step == trainer.max_steps

    def work(self, trainer: pl.Trainer, module: Stage2) -> None:
        """Sample with the EMA weights and publish the scores."""
        module.guard.check(module.last_checkpoint)  # its message names the step and the terms
        announce_scoring(trainer, f"{self.num_samples} samples")
        if self._reference is None:
            self._reference = self._compute_reference(trainer, module)
        with module.whole_average() as average:
            result = self._scores(trainer, module, average, self._reference)
        record_scores(trainer, module, result, folder=self.folder)

    def _scores(self, trainer: pl.Trainer, module: Stage2, average: Denoiser, reference: Reference) -> Scores:
        sampler = ImageSampler(
            dit=average,
            rae=module.rae,
            settings=self.settings,
            labels=LabelRule(num_classes=module.denoiser.num_classes, seed=module.seed),
            seed=module.seed,
            batch_size=min(self.batch_size, self.num_samples),
        )
        return evaluate_generation(
            sampler,
            self.num_samples,
            metrics=self._metrics,
            reference=reference,
            batch_size=sampler.batch_size,
            device=module.device,
            about={"step": trainer.global_step, "weights": "EMA", "sampler": sampler.describe()},
            progress=self.leave_if_asked,
        )

    def _compute_reference(self, trainer: pl.Trainer, module: Stage2) -> Reference:
        data, wanted = evaluation_data(trainer), needs(self._metrics, of_reference=True)

        def compute() -> Reference:
            return reference_from_data(
                data,
                wanted,
                purpose="generation",
                batch_size=self.batch_size,
                device=module.device,
                num_workers=trainer.datamodule.num_workers,  # pyright: ignore[reportAttributeAccessIssue]
                progress=self.leave_if_asked,
            )

        return cached_reference(
            cache_dir() / "references",
            data,
            wanted,
            purpose="generation",
            indices=list(range(len(data))),
            seed=0,
            compute=compute,
        )
