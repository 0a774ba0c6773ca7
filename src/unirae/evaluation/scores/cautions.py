"""Cautions before a score is quoted, and the counts of images that make no score at all.

Cautions stand in the record, and each is logged once.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from unirae.core.errors import DataError
from unirae.core.names import count_of
from unirae.evaluation.passes.image_hashes import count_shared
from unirae.evaluation.passes.scoring import Collected
from unirae.evaluation.references.reference import Reference
from unirae.evaluation.scores.record import FRECHET_SAMPLES, is_frechet, warn_once
from unirae.metrics.set_metrics import SetMetric


def check_counts(metrics: Iterable[SetMetric], count: int, what: str) -> None:
    """Refuse too few images, or others than those that a score was made for, before anything is made of them.

    Raises:
        DataError: If a score needs more images, or another number of them.
    """
    for metric in metrics:
        if count < metric.least_images:
            raise DataError(
                f"{what}: {count_of(count, 'image')} {'is' if count == 1 else 'are'} too few for "
                f"{', '.join(metric.labels.values())}, which needs at least {metric.least_images}; published "
                "scores rest on 50,000"
            )
        if metric.made_for not in (None, count):
            raise DataError(
                f"{what}: {count} images, but {', '.join(metric.labels.values())} was given {metric.made_for} prompts; "
                "each image has one"
            )


def cautions(
    metrics: Sequence[SetMetric],
    found: Collected,
    reference: Reference | None,
    *,
    names: Iterable[str],
    what: str,
    replaced: int = 0,
    repeats: bool = True,
) -> list[str]:
    """Cautions about a set of images that was scored against a reference.

    Args:
        names: of the scores, as they are recorded.
        what: the images, such as "the samples".
        replaced: how many of them could not be read.
        repeats: False where equal images are no surprise.
    """
    said = []
    if found.count < FRECHET_SAMPLES and any(map(is_frechet, names)):  # recipe, trap 13
        said.append(
            f"Fréchet scores of {found.count} images are biased upward: quote them as @{found.count} and compare only "
            "equal counts (published ones rest on 50,000)"
        )
    of_images = {**found.describe(), "unreadable_images_replaced": replaced}
    if not repeats:
        of_images["duplicates"] = 0
    said += _of_either_side(metrics, of_images, what)
    said += _of_other_sizes(metrics, found.size_px, what)
    said += [caution for metric in metrics for caution in metric.cautions]
    if reference is not None:
        said += cautions_of_reference(metrics, reference.identity, known=set(reference.extractors))
        if reference.hashes is not None and (shared := count_shared(found.hashes, reference.hashes)):
            said.append(
                f"{shared} of the {found.count} images {'stands' if shared == 1 else 'stand'} in the reference, too, "
                "pixel by pixel: copied, or both sides are the same images"
            )
    for caution in said:
        warn_once(caution)
    return said


def cautions_of_reference(
    metrics: Sequence[SetMetric], identity: dict[str, Any], *, known: set[str]
) -> list[str]:
    """Cautions about a reference by itself.

    Args:
        known: the extractors whose weights it records.
    """
    said = _of_either_side(metrics, identity, "the reference")
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


def _of_other_sizes(metrics: Sequence[SetMetric], size_px: list[int], what: str) -> list[str]:
    """A caution where published moments are those of images of another size."""
    sizes = {
        tuple(m.parameters["compared_with"]["size_px"]) for m in metrics if "compared_with" in m.parameters
    }
    return [
        f"{what}: images of {size_px[0]}×{size_px[1]} px are compared with published moments of images of "
        f"{rows}×{columns} px; published scores rest on images of that size"
        for rows, columns in sorted(sizes - {(size_px[0], size_px[1])})
    ]


def _published(metrics: Sequence[SetMetric], extractor: str) -> bool:
    identities = [m.extractor.identity for m in metrics if m.extractor.name == extractor]
    return all(identity.get("published_weights", True) for identity in identities)


def _of_either_side(metrics: Sequence[SetMetric], record: dict[str, Any], what: str) -> list[str]:
    """Cautions that hold of images and of references alike, from the record of a set."""
    widest = max((m.extractor.widths[m.output] for m in metrics if m.fits_gaussian), default=0)
    count, duplicates = record.get("count"), record.get("duplicates", 0)
    said = []
    if count is not None and count <= widest:
        said.append(
            f"{count} images are fewer than the {widest} features that a Fréchet score fits a Gaussian to; its "
            "covariance is singular, and the score rests on few directions"
        )
    if duplicates:
        of_all = "" if count is None else f" of {count}"
        said.append(
            f"{count_of(duplicates, 'image')}{of_all} {'equals' if duplicates == 1 else 'equal'} another one, pixel by "
            "pixel, so that the scores count that picture more than once"
        )
    if replaced := record.get("unreadable_images_replaced", 0):
        said.append(
            f"{count_of(replaced, 'image')} could not be read, and others stand in their places, which count "
            "twice; mend or remove what cannot be read and repeat the evaluation"
        )
    return [f"{what}: {caution}" for caution in said]
