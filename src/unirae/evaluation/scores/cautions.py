"""Cautions before a score is quoted, and the counts of images that make no score at all.

Cautions stand in the record, and each is logged once.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from unirae.core.errors import DataError
from unirae.evaluation.passes.image_hashes import Hashes, count_shared
from unirae.evaluation.passes.scoring import Collected
from unirae.evaluation.references.reference import Reference
from unirae.evaluation.scores.record import FRECHET_SAMPLES, is_frechet, warn_once
from unirae.metrics.set_metrics import SetMetric


def check_counts(metrics: Iterable[SetMetric], count: int, what: str) -> None:
    """Refuse too few images before anything is made of them.

    Raises:
        DataError: If a score needs more images.
    """
    for metric in metrics:
        if count < metric.least_images:
            raise DataError(
                f"{what}: {count} images are too few for {', '.join(metric.labels.values())}, which needs at least "
                f"{metric.least_images}; published scores rest on 50,000"
            )


def cautions(
    metrics: Sequence[SetMetric],
    found: Collected,
    reference: Reference | None,
    *,
    names: Iterable[str],
    what: str,
    replaced: int = 0,
) -> list[str]:
    """Cautions about a set of images that was scored against a reference.

    Args:
        names: of the scores, as they are recorded.
        what: the images, such as "the samples".
        replaced: how many of them could not be read.
    """
    said = [
        *_bias(names, found.count),
        *_few_images(metrics, found.count, what),
        *_duplicates(found.describe()["duplicates"], what),
        *_replaced(replaced, what),
    ]
    if reference is not None:
        said += cautions_of_reference(metrics, reference.identity, known=set(reference.extractors))
        said += _shared(found.hashes, reference.hashes)
    return _logged(said)


def cautions_of_reference(
    metrics: Sequence[SetMetric], identity: dict[str, Any], *, known: set[str]
) -> list[str]:
    """Cautions about a reference by itself.

    Args:
        known: the extractors whose weights it records.
    """
    said = []
    if identity.get("count") is not None:
        said += _few_images(metrics, identity["count"], "the reference")
    said += _duplicates(identity.get("duplicates", 0), "the reference")
    said += _replaced(identity.get("unreadable_images_replaced", 0), "the reference")
    if identity.get("size_px") is None:
        said.append("the reference does not say of which size its images were; see that it is that of yours")
    foreign = {m.extractor.name for m in metrics if m.reference is not None} - known
    said += [
        f"the reference does not say which network made it, and the weights used here ({name}) are not the published "
        "ones: the score means something only if the reference was made with them, too"
        for name in foreign
        if not _published(metrics, name)
    ]
    return said


def _published(metrics: Sequence[SetMetric], extractor: str) -> bool:
    identities = [m.extractor.identity for m in metrics if m.extractor.name == extractor]
    return all(identity.get("published_weights", True) for identity in identities)


def _bias(names: Iterable[str], count: int) -> list[str]:
    """Fréchet scores of few images are biased upward (recipe, trap 13)."""
    if count >= FRECHET_SAMPLES or not any(map(is_frechet, names)):
        return []
    return [
        f"Fréchet scores of {count} images are biased upward: quote them as @{count} and compare only equal counts "
        "(published ones rest on 50,000)"
    ]


def _few_images(metrics: Sequence[SetMetric], count: int, what: str) -> list[str]:
    """A covariance of fewer images than features is singular."""
    widths = [metric.extractor.widths[metric.output] for metric in metrics if metric.fits_gaussian]
    if count > max(widths, default=0):
        return []
    return [
        f"{what}: {count} images are fewer than the {max(widths)} features that a Fréchet score fits a Gaussian to; "
        "its covariance is singular, and the score rests on few directions"
    ]


def _duplicates(found: int, what: str) -> list[str]:
    return [f"{what}: {found} images stand there more than once"] if found else []


def _replaced(found: int, what: str) -> list[str]:
    if not found:
        return []
    return [
        f"{what}: {found} images could not be read, and others stand in their places, so that these count twice; mend "
        "or remove them and repeat the evaluation"
    ]


def _shared(hashes: Hashes, others: Hashes | None) -> list[str]:
    found = 0 if others is None else count_shared(hashes, others)
    if not found:
        return []
    return [
        f"{found} of the {len(hashes)} images stand in the reference, too, pixel by pixel: they were copied, or both "
        "sides are the same images"
    ]


def _logged(said: list[str]) -> list[str]:
    for caution in said:
        warn_once(caution)
    return said
