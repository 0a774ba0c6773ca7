"""Scores while training: one callback, and for each stage an evaluator."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import lightning.pytorch as pl
import torch

from unirae.core.arguments import argument
from unirae.core.cache import cache_dir
from unirae.core.distributed import is_main
from unirae.core.io import write_json
from unirae.core.log import get_logger
from unirae.core.version import __version__
from unirae.data.dataset import ImageDataset
from unirae.data.mix import Mixed
from unirae.data.source_content import recorded
from unirae.evaluation.passes.reading import Progress, describe_data
from unirae.evaluation.probe.features import Features, extract_features
from unirae.evaluation.probe.linear_probe import accuracies
from unirae.evaluation.references.reference import Reference, reference_from_data
from unirae.evaluation.references.reference_cache import cached_reference
from unirae.evaluation.sampling.image_sampler import ImageSampler
from unirae.evaluation.sampling.requests import LabelRule, RequestRule
from unirae.evaluation.sampling.settings import SamplerSettings
from unirae.evaluation.scores.generation import evaluate_generation
from unirae.evaluation.scores.reconstruction import evaluate_reconstruction
from unirae.flow.guidance import ALWAYS
from unirae.metrics.set_metrics import needs
from unirae.training.callbacks.after_step import AfterStep
from unirae.training.callbacks.captions import caption_rule
from unirae.training.events import count_within_split, epoch_of, evaluation_data, is_due, publish_scores
from unirae.training.linear_probe import LinearProbe
from unirae.training.manual import ManualModule
from unirae.training.stage1 import Stage1
from unirae.training.stage2 import Stage2

log = get_logger(__name__)


class Evaluator(Protocol):
    """A thing to score while training: reconstructions, samples, a classifier."""

    def prepare(self, trainer: pl.Trainer, module: Any) -> str:
        """Load what scoring needs, so that missing weights show at once; returns what is scored, for the log."""
        ...

    def score(self, trainer: pl.Trainer, module: Any, progress: Progress) -> dict[str, Any]:
        """The content of the result file, with the scores as ``metrics``; every process gets the same.

        Args:
            progress: called in long loops, which it may leave.
        """
        ...


class Scoring(AfterStep):
    """Scores the averaged weights every N steps, and once at the end; writes ``eval/step-*.json``.

    Args:
        evaluator: what is scored, and how.
        folder: where the JSON files go.
        every_n_steps: interval in steps; null means at the end only.
    """

    def __init__(self, evaluator: Evaluator, *, folder: str | Path, every_n_steps: int | None) -> None:
        self.evaluator, self.folder, self.every_n_steps = evaluator, Path(folder), every_n_steps
        self._what = ""

    @property
    def work_name(self) -> str:
        """Name of the evaluator's work."""
        return type(self.evaluator).__name__

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Load what scoring needs, or say what is missing."""
        self._what = self.evaluator.prepare(trainer, module)

    def is_due_now(self, trainer: pl.Trainer) -> bool:
        """True when scores are due, and after the last step."""
        step = trainer.global_step
        return is_due(step, self.every_n_steps) or step == trainer.max_steps

    def work(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Score the model, log the scores, write the file, publish as ``val/…``."""
        module.guard.check(module.last_checkpoint)  # its message names the step and the terms
        step = trainer.global_step
        if is_main():
            log.info("step %d: scoring %s", step, self._what)  # it may take longer than many steps
        content = self.evaluator.score(trainer, module, self.leave_if_asked)
        if is_main():
            labels = content.get("labels", {})
            scores = ", ".join(f"{labels.get(name, name)} {v:.4g}" for name, v in content["metrics"].items())
            log.info("step %d: %s", step, scores)
            write_json(self.folder / f"step-{step:07d}.json", content)
        publish_scores(trainer, module, {f"val/{name}": v for name, v in content["metrics"].items()})


@dataclass(kw_only=True)
class _WithMetrics:
    """Base of the evaluators whose metrics have networks of their own.

    Attributes:
        build_metrics: makes fresh metrics for the module (they may need its encoder).
        num_samples: how many images; null or more than the validation split has means so many as it has.
        batch_size: images at a time.
    """

    build_metrics: Callable[[Any], Any]
    num_samples: int | None
    batch_size: int
    metrics: Any = field(default=None, init=False)
    key: ClassVar[str]
    what: ClassVar[str]

    def prepare(self, trainer: pl.Trainer, module: ManualModule) -> str:
        """Load the networks of the metrics."""
        self.num_samples = count_within_split(trainer, self.num_samples, key=argument(self.key))
        self.metrics = self.build_metrics(module)
        return f"{self.num_samples} {self.what}"


class ReconstructionMetrics(_WithMetrics):
    """Scores of the validation split's reconstructions by the EMA decoder, of a seeded random subset of the split."""

    key, what = "reconstruction_metrics.num_samples", "reconstructions"

    def score(self, trainer: pl.Trainer, module: Stage1, progress: Progress) -> dict[str, Any]:
        """Reconstruct the split and compare."""
        data = evaluation_data(trainer)
        result = evaluate_reconstruction(
            module.ema_rae(),
            data,
            metrics=self.metrics,
            batch_size=self.batch_size,
            num_samples=self.num_samples,
            device=module.device,
            num_workers=_workers(trainer),
            about={
                "step": trainer.global_step,
                "weights": "EMA",
                "crop": type(data.transform).__name__,
                **describe_data(data),
            },
            progress=progress,
        )
        return result.content()


@dataclass(kw_only=True)
class GenerationMetrics(_WithMetrics):
    """Scores of samples of the EMA weights, against the validation split.

    The samples' noise and labels are the same every time, so that scores of one run differ by its weights alone; labels
    go round the classes. There are never more samples than the split has images: a Fréchet distance says most at equal
    counts. The reference is computed once.

    Attributes:
        num_steps: points of the sampler's time grid.
        cfg_scale: strength of classifier-free guidance; 1 is without.
        ig_scale, ig_interval, ig_unconditional_scale: internal guidance, as of
            :class:`~unirae.evaluation.sampling.settings.SamplerSettings`.
    """

    num_steps: int
    cfg_scale: float
    ig_scale: float = 1.0
    ig_interval: tuple[float, float] = ALWAYS
    ig_unconditional_scale: float | None = None
    _reference: Reference | None = field(default=None, init=False)
    key, what = "generation_metrics.num_samples", "samples"

    def score(self, trainer: pl.Trainer, module: Stage2, progress: Progress) -> dict[str, Any]:
        """Sample images and score them."""
        count = self.num_samples
        assert count is not None, "the preparation says how many"
        if self._reference is None:
            self._reference = self._compute_reference(trainer, module, progress)
        with module.whole_average() as average:
            sampler = ImageSampler(
                dit=average,
                rae=module.rae,
                settings=SamplerSettings(
                    num_steps=self.num_steps,
                    cfg_scale=self.cfg_scale,
                    time_grid=module.time_grid,
                    ig_scale=self.ig_scale,
                    ig_interval=self.ig_interval,
                    ig_unconditional_scale=self.ig_unconditional_scale,
                ),
                rule=self._rule(trainer, module, count),
                seed=module.seed,
                batch_size=min(self.batch_size, count),
            )
            result = evaluate_generation(
                sampler,
                count,
                metrics=self.metrics,
                reference=self._reference,
                batch_size=sampler.batch_size,
                device=module.device,
                about={
                    "step": trainer.global_step,
                    "epoch": epoch_of(trainer),
                    "weights": "EMA",
                    "sampler": sampler.describe(),
                },
                progress=progress,
            )
        return result.content()

    def _rule(self, trainer: pl.Trainer, module: Stage2, count: int) -> RequestRule:
        """Labels that go round the classes, or captions of the images that samples are compared with.

        These are spread over the split: its first images may all be of one kind.
        """
        if module.denoiser.reads_text:
            return caption_rule(module, evaluation_data(trainer).source, count)
        return LabelRule(num_classes=module.denoiser.num_classes, seed=module.seed)

    def _compute_reference(self, trainer: pl.Trainer, module: Stage2, progress: Progress) -> Reference:
        data, wanted = evaluation_data(trainer), needs(self.metrics, of_reference=True)
        compute = partial(
            reference_from_data,
            data,
            wanted,
            purpose="generation",
            batch_size=self.batch_size,
            device=module.device,
            num_workers=_workers(trainer),
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


@dataclass(kw_only=True)
class ProbeAccuracy:
    """Accuracy of the averaged head on the validation split.

    The encoder is frozen and validation images are not augmented, so their features are computed once.

    Attributes:
        batch_size: images read at once; no score depends on it.
    """

    batch_size: int
    _features: Features | None = field(default=None, init=False)

    def prepare(self, trainer: pl.Trainer, module: LinearProbe) -> str:
        """Nothing is loaded: the encoder is the module's."""
        return f"{len(evaluation_data(trainer))} images"

    @torch.no_grad()
    def score(self, trainer: pl.Trainer, module: LinearProbe, progress: Progress) -> dict[str, Any]:
        """Classify the validation split."""
        data = evaluation_data(trainer)
        if self._features is None:
            self._features = extract_features(
                module.network,
                data,
                batch_size=self.batch_size,
                device=module.device,
                num_workers=_workers(trainer),
                progress=progress,
            )
        values = self._features.values.to(module.head.linear.weight)
        logits = module.ema.average(values).float().cpu()
        metrics, uncertainty = accuracies(logits, self._features.labels)
        about = {"step": trainer.global_step, "weights": "EMA", **describe_probe(trainer, module)}
        return {"metrics": metrics, "uncertainty": uncertainty, "count": len(data), "settings": about}


def describe_probe(trainer: pl.Trainer, module: LinearProbe) -> dict[str, Any]:
    """Encoder and data, as ``eval_linear_probe.py`` records them; so the two can be compared."""
    training, validation = trainer.datamodule.train_dataset, evaluation_data(trainer)  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(training, ImageDataset | Mixed)
    crop = type(validation.transform)
    return {
        "input_size_px": module.input_size[0],
        "crop": f"{crop.__module__}.{crop.__qualname__}",
        "data": validation.source.name,
        "fingerprints": {"train": recorded(training.source), "val": recorded(validation.source)},
        "training_images": len(training),
        "num_classes": len(module.class_names),
        "feature_width": module.network.width,
        "features": module.network.identity,
        "device": module.device.type,
        "versions": {"unirae": __version__, "torch": str(torch.__version__)},
    }


def _workers(trainer: pl.Trainer) -> int:
    """Loader processes of the run's data module."""
    return trainer.datamodule.num_workers  # pyright: ignore[reportAttributeAccessIssue]
