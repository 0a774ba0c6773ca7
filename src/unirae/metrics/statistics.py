"""Statistics of the features of a set of images: their moments, or all of them in the order of the images.

Moments take constant memory and serve Fréchet distances; kernel distances, precision, recall and resampling need the
features themselves. One pass over the images fills everything that is wanted of every extractor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from unirae.core.distributed import rows_of_all
from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.moments import MomentAccumulator, Moments, moments_of

_ROWS_AT_ONCE = 4096
"""Features that go into the moments together: each time the whole covariance matrix is read and written."""


@dataclass(frozen=True, kw_only=True)
class Keep:
    """The statistics that a score needs of one side's features."""

    moments: bool = False
    features: bool = False

    def __or__(self, other: "Keep") -> "Keep":
        """The statistics that either of the two needs."""
        return Keep(moments=self.moments or other.moments, features=self.features or other.features)


@dataclass(frozen=True, kw_only=True)
class SetStatistics:
    """Statistics of one output of an extractor over a set of images; at least one of the two is there.

    Attributes:
        count: images behind them; 0 where it is not known.
        features: float32 on the CPU, in the order of the images.
    """

    count: int
    moments: Moments | None = None
    features: Float[Tensor, "n d"] | None = None

    def need_moments(self) -> Moments:
        """The moments, computed from the features where they were not kept."""
        return moments_of(self.need_features()) if self.moments is None else self.moments

    def need_features(self) -> Float[Tensor, "n d"]:
        """The features.

        Raises:
            ValueError: If only moments were kept.
        """
        if self.features is None:
            raise ValueError("this score needs the features of each image, but only their moments were kept")
        return self.features


Statistics = Mapping[str, SetStatistics]
"""Statistics of several outputs, by :func:`statistics_key`."""


def statistics_key(extractor: str, output: str) -> str:
    """Key of the statistics of an output: ``extractor/output``."""
    return f"{extractor}/{output}"


class Collector:
    """Collector that streams images through extractors and keeps the wanted statistics of each output.

    Args:
        needs: by extractor what to keep of which outputs; the networks are on ``device``.
        count: images in all, over all processes.
        shared: each process sees its part of the images, and all of them compute together; False for a set that one
            process has to itself.
    """

    def __init__(
        self,
        needs: Sequence[tuple[FeatureExtractor, Mapping[str, Keep]]],
        *,
        count: int,
        device: torch.device | str = "cpu",
        shared: bool = True,
    ) -> None:
        self._needs = needs
        self._kept = {
            statistics_key(extractor.name, output): _Kept(
                width=extractor.widths[output], keep=keep, count=count, device=device, shared=shared
            )
            for extractor, outputs in needs
            for output, keep in outputs.items()
        }

    def update(self, positions: Int64[Tensor, " b"], images: UInt8[Tensor, "b 3 H W"]) -> None:
        """Add the images that stand at these positions of the set."""
        for extractor, outputs in self._needs:
            features = extractor.features(images)
            for output in outputs:
                self._kept[statistics_key(extractor.name, output)].update(positions, features[output])

    def compute(self) -> Statistics:
        """The statistics over all processes.

        Raises:
            ValueError: If there are fewer than two images, or a feature is not finite.
        """
        return {key: kept.compute() for key, kept in self._kept.items()}


class _Kept:
    """Statistics of one output while they grow."""

    def __init__(
        self, *, width: int, keep: Keep, count: int, device: torch.device | str, shared: bool
    ) -> None:
        self._count, self._device, self._shared = count, device, shared
        self._moments = MomentAccumulator(width=width, device=device, shared=shared) if keep.moments else None
        self._features = torch.zeros(count, width) if keep.features else None
        waiting = min(count, _ROWS_AT_ONCE) if keep.moments else 0
        self._waiting = torch.empty(waiting, width, device=device)
        self._waiting_count = 0

    def update(self, positions: Tensor, features: Tensor) -> None:
        if self._features is not None:
            self._features[positions.cpu()] = features.cpu()
        if self._moments is not None:
            for rows in features.split(len(self._waiting)):
                self._add(rows, self._moments)

    def _add(self, rows: Tensor, moments: MomentAccumulator) -> None:
        if self._waiting_count + len(rows) > len(self._waiting):
            self._add_waiting(moments)
        self._waiting[self._waiting_count : self._waiting_count + len(rows)] = rows
        self._waiting_count += len(rows)

    def _add_waiting(self, moments: MomentAccumulator) -> None:
        moments.update(self._waiting[: self._waiting_count])
        self._waiting_count = 0

    def compute(self) -> SetStatistics:
        moments = None
        if self._moments is not None:
            self._add_waiting(self._moments)
            moments = self._moments.compute()
        features = self._features
        if features is not None:
            if self._shared:
                features = rows_of_all(features, device=self._device)
            if not features.isfinite().all():
                raise ValueError(
                    "some features are not finite: the extractor's weights or its input hold NaN or inf"
                )
        return SetStatistics(count=self._count, moments=moments, features=features)
