"""The pass behind every score of a set of images: one reading, all features, all scores.

``eval_fid.py``, ``eval_rfid.py``, ``evaluate.py``, ``make_reference.py`` and the callbacks go through here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unirae.core.distributed import gather
from unirae.core.errors import DataError
from unirae.core.exact import NETWORK_CHUNK
from unirae.core.version import __version__
from unirae.evaluation.passes.image_hashes import HashCollector, Hashes, content_sha256, count_duplicates
from unirae.evaluation.passes.reading import Chunk
from unirae.metrics.base import Estimate
from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.set_metrics import SetMetric, compute, means
from unirae.metrics.statistics import Collector, Keep, Statistics

Needs = Sequence[tuple[FeatureExtractor, Mapping[str, Keep]]]
"""Extractors with their outputs, and the statistics to keep of each output."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Result of a pass over a set of images.

    Attributes:
        size_px: (height, width) of the images.
    """

    statistics: Statistics
    hashes: Hashes
    size_px: list[int]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.hashes)

    def describe(self) -> dict[str, Any]:
        """Description of the images, for ``settings``."""
        return {
            "count": self.count,
            "size_px": self.size_px,
            "content_sha256": content_sha256(self.hashes),
            "duplicates": count_duplicates(self.hashes),
        }


class SetCollector:
    """Features and hashes of one set of images, chunk by chunk."""

    def __init__(self, needs: Needs, *, count: int, device: torch.device | str = "cpu") -> None:
        self._features = Collector(needs, count=count, device=device)
        self._hashes = HashCollector(count, device=device)
        self._size_px: list[int] = []
        self._count = count

    def update(self, chunk: Chunk) -> None:
        """Add a chunk of images.

        Raises:
            DataError: If the images have another size than those before.
        """
        positions, images = chunk
        size = list(images.shape[-2:])
        if self._size_px and self._size_px != size:
            raise DataError(f"images of {self._size_px} px and of {size} px (height, width) in one set")
        self._size_px = size
        self._features.update(positions, images)
        self._hashes.update(positions, images)

    def compute(self) -> Collected:
        """Compute statistics and hashes over all processes.

        Raises:
            DataError: If there are too few images for their moments, or features are not finite.
        """
        try:
            statistics = self._features.compute()
        except ValueError as error:
            raise DataError(str(error)) from None
        sizes = [size for size in gather(self._size_px) if size]  # few images may leave a process none
        if any(size != sizes[0] for size in sizes):
            raise DataError(f"images of {sizes} px (height, width) in one set")
        return Collected(statistics=statistics, hashes=self._hashes.compute(), size_px=sizes[0])


def collect(
    chunks: Iterable[Chunk], needs: Needs, *, count: int, device: torch.device | str = "cpu"
) -> Collected:
    """One pass over a set of ``count`` images, of which each process sees its share."""
    collector = SetCollector(needs, count=count, device=device)
    for chunk in chunks:
        collector.update(chunk)
    return collector.compute()


def compute_scores(
    metrics: Sequence[SetMetric], images: Statistics, reference: Statistics
) -> dict[str, Estimate]:
    """Compute every score, under its label.

    Raises:
        DataError: If there are too few images for one of the scores.
    """
    try:
        return compute(metrics, images, reference)
    except ValueError as error:
        raise DataError(str(error)) from None


def settings_of(metrics: Sequence[SetMetric], *, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Every score's settings under its label, or under the name that ``names`` gives the label."""
    labels = {label: metric.settings for metric in metrics for label in metric.labels.values()}
    of_terms = {mean: {term: labels[term] for term in terms} for mean, terms in means(metrics).items()}
    labels |= {mean: {"mean_of": settings} for mean, settings in of_terms.items()}
    return {label if names is None else names[label]: settings for label, settings in labels.items()}


def program(device: torch.device | str) -> dict[str, Any]:
    """Versions and device of the program that computed the scores."""
    return {
        "network_chunk": NETWORK_CHUNK,
        "device": torch.device(device).type,
        "versions": {"unirae": __version__, "torch": str(torch.__version__)},
    }
