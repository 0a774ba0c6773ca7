"""Scores of images that lie in files: against other images, or against statistics, in one reading."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.core.exact import FEATURE_CHUNK
from unirae.data.stored import StoredImages
from unirae.evaluation.passes.image_pairs import find_pairs
from unirae.evaluation.passes.reading import Chunk, Progress, choose_indices, read_chunks
from unirae.evaluation.passes.scoring import Collected, SetCollector, collect
from unirae.evaluation.references.reference import (
    Reference,
    check_fits,
    check_purpose,
    of_same_size,
    reference_of,
    selection,
)
from unirae.evaluation.scores.cautions import check_counts
from unirae.evaluation.scores.generation import scored
from unirae.evaluation.scores.record import Scores
from unirae.metrics.base import PairMetric
from unirae.metrics.set_metrics import SetMetric, needs


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Settings of reading images.

    Attributes:
        num_samples: a seeded random subset of this size; all images where None.
        batch_size: images read at once; it does not reach the networks.
        progress: called with (images done, images in all) of this process.
    """

    num_samples: int | None = None
    seed: int = 0
    batch_size: int = 64
    num_workers: int = 0
    device: torch.device | str = "cpu"
    progress: Progress | None = None

    def indices(self, data: StoredImages) -> list[int]:
        """Numbers of the images that are read."""
        return choose_indices(len(data), self.num_samples, self.seed)

    def chunks(
        self, data: StoredImages, *, order: Sequence[int] | None = None, progress: Progress | None = None
    ) -> Iterator[Chunk]:
        """This process's share of the images; ``order`` gives the number of the image that stands at each place."""
        indices = self.indices(data)
        return read_chunks(
            data,
            indices if order is None else [order[index] for index in indices],
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            replaced=torch.zeros((), dtype=torch.int64, device=self.device),
            chunk=FEATURE_CHUNK,
            progress=progress,
        )


def score_images(
    images: StoredImages,
    *,
    metrics: Sequence[SetMetric],
    reference: Reference | None,
    reading: Reading,
    about: Mapping[str, Any] | None = None,
) -> Scores:
    """Score a set of images; every process gets the same result.

    Args:
        metrics: their networks must be on the reading's device.
        reference: None where no metric needs one.
        about: what the caller knows of the images, kept with the scores.

    Raises:
        DataError: If there are too few images, images of different sizes, or one that cannot be read.
        ConfigError: If the reference lacks what the metrics need, or was made for reconstructions.
    """
    if reference is not None:
        check_purpose(reference, "generation")
        check_fits(reference, metrics)
    check_counts(metrics, len(reading.indices(images)), "the images")
    chunks = reading.chunks(images, progress=reading.progress)
    found = collect(
        chunks if reference is None else of_same_size(chunks, reference),
        needs(metrics, of_reference=False),
        count=len(reading.indices(images)),
        device=reading.device,
    )
    settings = {"images": _record(images, found, reading, about)}
    return scored(
        found, reference, metrics=metrics, settings=settings, device=reading.device, what="the images"
    )


def score_pairs(
    images: StoredImages,
    originals: StoredImages,
    *,
    of_pairs: Sequence[PairMetric],
    metrics: Sequence[SetMetric] = (),
    reading: Reading,
    about: Mapping[str, Any] | None = None,
) -> Scores:
    """Score each image against its original, and the set against the set of originals, in one reading of both.

    Folders are paired by the names of their files, a folder and a file of images by the numbers in its names
    (:mod:`unirae.evaluation.passes.image_pairs`).

    Raises:
        DataError: If the sets have different counts, names or sizes, or it is not certain which images are
            pairs.
    """
    pairs = find_pairs(images, originals)
    check_counts(metrics, len(reading.indices(images)), "the images")
    for metric in of_pairs:
        metric.reset()
    count = len(reading.indices(images))
    of_originals = needs(metrics, of_reference=True)
    real = SetCollector(of_originals, count=count, device=reading.device)
    made = SetCollector(needs(metrics, of_reference=False), count=count, device=reading.device)
    sides = (
        reading.chunks(originals, order=pairs.originals),
        reading.chunks(images, order=pairs.images, progress=reading.progress),
    )
    for original, image in zip(*sides, strict=True):
        _check_sizes(original, image)
        real.update(original)
        made.update(image)
        for metric in of_pairs:
            metric.update(original[1], image[1])
    identity = {
        **selection(originals, reading.indices(originals), seed=reading.seed),
        "purpose": "generation",
    }
    reference = reference_of(real.compute(), of_originals, identity=identity)
    found = made.compute()
    settings = {"images": _record(images, found, reading, {**(about or {}), "paired_by": pairs.by})}
    result = scored(
        found, reference, metrics=metrics, settings=settings, device=reading.device, what="the images"
    )
    result.estimates.update({metric.name: metric.compute() for metric in of_pairs})
    result.settings["metrics"].update({metric.name: metric.settings for metric in of_pairs})
    return result


def _record(
    images: StoredImages, found: Collected, reading: Reading, about: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Record of the images that were read."""
    chosen = selection(images, reading.indices(images), seed=reading.seed)
    return {**(about or {}), **chosen, **found.describe()}


def _check_sizes(original: Chunk, image: Chunk) -> None:
    ours, theirs = image[1].shape[-2:], original[1].shape[-2:]
    if ours != theirs:
        raise ConfigError(
            f"images of {ours[0]}×{ours[1]} px cannot be compared one by one with originals of {theirs[0]}×{theirs[1]} "
            f"px; crop both alike with {argument('size')}"
        )
