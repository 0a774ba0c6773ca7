"""Fréchet scores of samples of the EMA weights while training stage 2."""

from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl

from unirae.core.arguments import argument
from unirae.core.cache import cache_dir
from unirae.evaluation.passes.reading import Progress
from unirae.evaluation.references.reference import Reference, reference_from_data
from unirae.evaluation.references.reference_cache import cached_reference
from unirae.evaluation.sampling.image_sampler import ImageSampler, LabelRule
from unirae.evaluation.sampling.sampler import SamplerSettings
from unirae.evaluation.scores.generation import evaluate_generation
from unirae.metrics.set_metrics import SetMetric, needs
from unirae.training.events import count_within_split, evaluation_data
from unirae.training.stage2 import Stage2


class GenerationMetrics:
    """Scores of samples of the EMA weights, against the validation split.

    The samples' noise and labels are the same every time, so that scores of one run differ by its weights alone. The
    reference is computed once.

    Args:
        build_metrics: makes the metrics for the module (they may need its encoder).
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
        num_samples: int,
        batch_size: int,
        num_steps: int,
        cfg_scale: float,
    ) -> None:
        self.build_metrics, self.num_samples, self.batch_size = build_metrics, num_samples, batch_size
        self.settings = SamplerSettings(num_steps=num_steps, cfg_scale=cfg_scale)
        self._metrics: Sequence[SetMetric] = ()
        self._reference: Reference | None = None

    def prepare(self, trainer: pl.Trainer, module: Stage2) -> str:
        """Load the networks of the metrics."""
        key = argument("generation_metrics.num_samples")
        self.num_samples = count_within_split(trainer, self.num_samples, key=key)
        self._metrics = self.build_metrics(module)
        return f"{self.num_samples} samples"

    def score(self, trainer: pl.Trainer, module: Stage2, progress: Progress) -> dict[str, Any]:
        """Sample images and score them."""
        if self._reference is None:
            self._reference = self._compute_reference(trainer, module, progress)
        with module.whole_average() as average:
            sampler = ImageSampler(
                dit=average,
                rae=module.rae,
                settings=self.settings,
                labels=LabelRule(num_classes=module.denoiser.num_classes, seed=module.seed),
                seed=module.seed,
                batch_size=min(self.batch_size, self.num_samples),
            )
            result = evaluate_generation(
                sampler,
                self.num_samples,
                metrics=self._metrics,
                reference=self._reference,
                batch_size=sampler.batch_size,
                device=module.device,
                about={"step": trainer.global_step, "weights": "EMA", "sampler": sampler.describe()},
                progress=progress,
            )
        return result.content()

    def _compute_reference(self, trainer: pl.Trainer, module: Stage2, progress: Progress) -> Reference:
        data, wanted = evaluation_data(trainer), needs(self._metrics, of_reference=True)

        def compute() -> Reference:
            return reference_from_data(
                data,
                wanted,
                purpose="generation",
                batch_size=self.batch_size,
                device=module.device,
                num_workers=trainer.datamodule.num_workers,  # pyright: ignore[reportAttributeAccessIssue]
                progress=progress,
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
