"""Scores of a set of images by name, the features that they need, and their computation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from unirae.metrics.base import Estimate
from unirae.metrics.extractors import POOLED, FeatureExtractor
from unirae.metrics.frechet import frechet_distance, frechet_name
from unirae.metrics.inception import LOGITS, SPATIAL
from unirae.metrics.inception_score import SEED as SCORE_SEED
from unirae.metrics.inception_score import SPLITS, Order, inception_score
from unirae.metrics.kernel import SEED, SUBSET_SIZE, SUBSETS, kernel_distance
from unirae.metrics.manifold import (
    DENSITY_COVERAGE_NEIGHBOURS,
    PRECISION_RECALL_NEIGHBOURS,
    manifold_scores,
)
from unirae.metrics.mind import PROJECTIONS, mind
from unirae.metrics.mind import SEED as MIND_SEED
from unirae.metrics.resampling import Confidence, with_confidence
from unirae.metrics.statistics import Keep, SetStatistics, Statistics, statistics_key

INCEPTION_METRICS = ("fid", "sfid", "is", "kid", "mind", "precision", "recall", "density", "coverage")
"""Names of the scores in Inception's features."""
ENCODER_METRIC = "fd"
"""The Fréchet distance in the features of any other extractor."""
ENCODER_METRICS = (ENCODER_METRIC, "mind_fd")
"""Names of the scores in those features."""

_MANIFOLD = ("precision", "recall", "density", "coverage")
_MOMENTS, _FEATURES = Keep(moments=True), Keep(features=True)

Compute = Callable[[SetStatistics, SetStatistics | None], dict[str, Estimate]]


@dataclass(frozen=True, kw_only=True)
class SetMetric:
    """One or several scores that are computed together from the same statistics.

    Attributes:
        labels: by the scores' plain names those that they are recorded under, which say so if weights are random.
        images, reference: what is kept of both sides; a score without a reference looks at the images alone.
        compute: from the statistics of both sides to the scores, by their plain names.
        parameters: what decides the scores beside the features, JSON-able.
        least_images: on each side that it needs.
        mean: the recorded name of the mean over several metrics, if this one is a term of it.
        made_for: images in the one set that the metric was made for; None where it scores any.
        cautions: knowledge that a reader needs before the scores are quoted.
    """

    labels: Mapping[str, str]
    extractor: FeatureExtractor
    compute: Compute
    output: str = POOLED
    images: Keep = _FEATURES
    reference: Keep | None = _FEATURES
    parameters: dict[str, Any] = field(default_factory=dict)
    least_images: int = 2
    mean: str | None = None
    made_for: int | None = None
    cautions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name of the statistics that the metric reads."""
        return statistics_key(self.extractor.name, self.output)

    @property
    def fits_gaussian(self) -> bool:
        """True where the metric compares means and covariances: a Fréchet distance."""
        return self.images.moments or (self.reference is not None and self.reference.moments)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that identify the scores: features and parameters."""
        return {
            "extractor": self.extractor.name,
            "output": self.output,
            "features": self.extractor.widths[self.output],
            **self.extractor.identity,
            **self.parameters,
        }


def inception_metrics(
    names: Sequence[str],
    extractor: FeatureExtractor,
    *,
    confidence: Confidence | None = None,
    is_order: Order = "shuffled",
) -> list[SetMetric]:
    """The metrics among :data:`INCEPTION_METRICS` with these names; nearest-neighbour scores are computed together.

    Args:
        extractor: Inception.
        confidence: for Fréchet distances; it needs every image's features.
        is_order: of the images in the Inception Score's parts.
    """
    metrics = [_frechet(name, extractor, confidence) for name in ("fid", "sfid") if name in names]
    if "is" in names:
        metrics.append(_inception_score(extractor, is_order))
    if "kid" in names:
        metrics.append(_kernel(extractor))
    if "mind" in names:
        metrics.append(_mind("mind", extractor))
    wanted = [name for name in _MANIFOLD if name in names]
    return [*metrics, _manifold(wanted, extractor)] if wanted else metrics


def need_encoder(names: Iterable[str]) -> bool:
    """True where a score among these names compares features of an encoder."""
    return any(name in ENCODER_METRICS for name in names)


def encoder_metric(extractor: FeatureExtractor, *, confidence: Confidence | None = None) -> SetMetric:
    """The Fréchet distance in an encoder's features, ``fd_<name>``."""
    return _frechet(ENCODER_METRIC, extractor, confidence)


def encoder_metrics(
    names: Sequence[str], extractor: FeatureExtractor, *, confidence: Confidence | None = None
) -> list[SetMetric]:
    """The metrics among :data:`ENCODER_METRICS` with these names: ``fd_<encoder>`` and ``mind_<encoder>``."""
    metrics = [encoder_metric(extractor, confidence=confidence)] if ENCODER_METRIC in names else []
    return [*metrics, _mind("mind_fd", extractor)] if "mind_fd" in names else metrics


def needs(
    metrics: Iterable[SetMetric], *, of_reference: bool
) -> list[tuple[FeatureExtractor, dict[str, Keep]]]:
    """The statistics that a collector must keep of one side for all of these metrics."""
    found: dict[str, tuple[FeatureExtractor, dict[str, Keep]]] = {}
    for metric in metrics:
        keep = metric.reference if of_reference else metric.images
        if keep is not None:
            _, outputs = found.setdefault(metric.extractor.name, (metric.extractor, {}))
            outputs[metric.output] = outputs.get(metric.output, Keep()) | keep
    return list(found.values())


def compute(metrics: Sequence[SetMetric], images: Statistics, reference: Statistics) -> dict[str, Estimate]:
    """Compute every score, under its label, and the means of those that are terms of one."""
    found = {}
    for metric in metrics:
        other = None if metric.reference is None else reference[metric.key]
        scores = metric.compute(images[metric.key], other)
        found.update({label: scores[name] for name, label in metric.labels.items()})
    for mean, terms in means(metrics).items():
        found[mean] = Estimate(value=fmean(found[term].value for term in terms))
    return found


def means(metrics: Iterable[SetMetric]) -> dict[str, list[str]]:
    """The means among the scores of these metrics, and the labels of their terms."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.mean is not None:
            found.setdefault(metric.mean, []).extend(metric.labels.values())
    return found


def _label(name: str, extractor: FeatureExtractor) -> str:
    """The name of a score in Inception's features; it says so if they are of random weights."""
    return name if extractor.name == "inception" else f"{name}_{extractor.name}"


def _given(statistics: SetStatistics | None) -> SetStatistics:
    assert statistics is not None, "this score needs a reference"
    return statistics


def _frechet(name: str, extractor: FeatureExtractor, confidence: Confidence | None) -> SetMetric:
    def compute(images: SetStatistics, reference: SetStatistics | None) -> dict[str, Estimate]:
        moments = _given(reference).need_moments()
        if confidence is None:
            return {name: Estimate(value=frechet_distance(images.need_moments(), moments))}
        return {name: with_confidence(images.need_features(), moments, confidence)}

    return SetMetric(
        labels={name: _label(name, extractor) if name == "sfid" else frechet_name(extractor)},
        extractor=extractor,
        output=SPATIAL if name == "sfid" else POOLED,
        images=_MOMENTS if confidence is None else _FEATURES,
        reference=_MOMENTS,
        compute=compute,
        least_images=2 if confidence is None else confidence.least_images,
    )


def _inception_score(extractor: FeatureExtractor, order: Order) -> SetMetric:
    def compute(images: SetStatistics, reference: SetStatistics | None) -> dict[str, Estimate]:
        return {"is": inception_score(images.need_features(), order=order)}

    seed = SCORE_SEED if order == "shuffled" else None
    return SetMetric(
        labels={"is": _label("is", extractor)},
        extractor=extractor,
        output=LOGITS,
        reference=None,
        compute=compute,
        parameters={"splits": SPLITS, "order": order, "seed": seed},
        least_images=SPLITS,
    )


def _kernel(extractor: FeatureExtractor) -> SetMetric:
    def compute(images: SetStatistics, reference: SetStatistics | None) -> dict[str, Estimate]:
        return {"kid": kernel_distance(images.need_features(), _given(reference).need_features())}

    return SetMetric(
        labels={"kid": _label("kid", extractor)},
        extractor=extractor,
        compute=compute,
        parameters={
            "subsets": SUBSETS,
            "subset_size_at_most": SUBSET_SIZE,
            "seed": SEED,
            "kernel": "(a·b/d + 1)^3",
        },
    )


def _mind(name: str, extractor: FeatureExtractor) -> SetMetric:
    def compute(images: SetStatistics, reference: SetStatistics | None) -> dict[str, Estimate]:
        return {name: mind(images.need_features(), _given(reference).need_features())}

    return SetMetric(
        labels={name: _label("mind", extractor)},
        extractor=extractor,
        compute=compute,
        parameters={"projections": PROJECTIONS, "seed": MIND_SEED},
    )


def _manifold(names: Sequence[str], extractor: FeatureExtractor) -> SetMetric:
    def compute(images: SetStatistics, reference: SetStatistics | None) -> dict[str, Estimate]:
        scores = manifold_scores(images.need_features(), _given(reference).need_features())
        return {name: getattr(scores, name) for name in _MANIFOLD}

    return SetMetric(
        labels={name: _label(name, extractor) for name in names},
        extractor=extractor,
        compute=compute,
        parameters={
            "neighbours": PRECISION_RECALL_NEIGHBOURS,
            "density_neighbours": DENSITY_COVERAGE_NEIGHBOURS,
        },
        least_images=DENSITY_COVERAGE_NEIGHBOURS + 1,
    )
