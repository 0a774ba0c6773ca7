"""Mean and covariance, or variance, of a stream of samples, in float64 and constant memory.

The updates are those of Chan, Golub and LeVeque (1983): deviations are taken from the mean so far, never from
zero, so nothing cancels where a feature's mean is far larger than its spread. The result does not depend on
the order or the size of the batches beyond float64 rounding, nor on the number of processes.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from unirae.core.distributed import all_sum, world_size


@dataclass(frozen=True, kw_only=True)
class Moments:
    """A Gaussian's parameters with the number of samples behind them; ``covariance`` divides by n − 1."""

    count: int
    mean: Float64[Tensor, " d"]
    covariance: Float64[Tensor, "d d"]


@dataclass(frozen=True, kw_only=True)
class ElementMoments:
    """Mean and variance of each element with the number of samples behind them; ``variance`` divides by n."""

    count: int
    mean: Float64[Tensor, "..."]
    variance: Float64[Tensor, "..."]


class _Accumulator(ABC):
    """Streaming count, mean and scatter Σ f(x − mean), where f is what :meth:`spread` adds up."""

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        scatter_shape: tuple[int, ...],
        device: torch.device | str,
        shared: bool = True,
    ) -> None:
        self._shared = shared
        device = torch.device(device)
        if device.type == "mps":  # Metal has no float64
            device = torch.device("cpu")
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.mean = torch.zeros(shape, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(scatter_shape, dtype=torch.float64, device=device)

    @staticmethod
    @abstractmethod
    def spread(rows: Float64[Tensor, "n ..."]) -> Float64[Tensor, "..."]:
        """The sum over deviations that the scatter consists of."""

    def update(self, features: Float[Tensor, "b ..."], weight: float = 1.0) -> None:
        """Add a batch of samples, each of which counts ``weight`` times."""
        if not len(features) or weight == 0:
            return
        features = features.to(self.mean.device)
        batch_mean = features.mean(0, dtype=torch.float64)
        shift = batch_mean - self.mean
        added = weight * len(features)
        total = self.count + added
        # The deviations from the batch's mean, and as one row more those of the two means.
        rows = self.mean.new_empty(len(features) + 1, *self.mean.shape)
        torch.sub(features, batch_mean, out=rows[:-1])
        torch.mul(shift, (self.count * len(features) / total).sqrt(), out=rows[-1])
        self.scatter.add_(self.spread(rows), alpha=weight)
        self.mean = self.mean + shift * (added / total)
        self.count = total

    def merged(self) -> tuple[float, Tensor, Tensor]:
        """Count, mean and scatter over all processes; the state stays as it is, so more updates may follow."""
        if not self._shared or world_size() == 1:
            return float(self.count), self.mean, self.scatter
        count = all_sum(self.count)
        mean = all_sum(self.mean * self.count) / count
        scatter = all_sum(self.scatter + self.spread((self.mean - mean)[None]) * self.count)
        return float(count), mean, scatter


def _gram(rows: Float64[Tensor, "n d"]) -> Float64[Tensor, "d d"]:
    """Gram matrix rowsᵀ·rows."""
    if rows.device.type != "cpu":
        return rows.T @ rows
    array = rows.numpy()
    return torch.from_numpy(np.dot(array.T, array))


class MomentAccumulator(_Accumulator):
    """Accumulator of feature vectors, with the whole scatter matrix Σ (x − mean)(x − mean)ᵀ."""

    def __init__(self, *, width: int, device: torch.device | str = "cpu", shared: bool = True) -> None:
        """Start with nothing seen.

        Args:
            shared: each process sees a part of the samples, and all of them compute the moments together.
        """
        super().__init__(shape=(width,), scatter_shape=(width, width), device=device, shared=shared)

    @staticmethod
    def spread(rows: Float64[Tensor, "n d"]) -> Float64[Tensor, "d d"]:
        """Outer products of the deviations, summed."""
        return _gram(rows)

    def compute(self) -> Moments:
        """The moments over all processes.

        Raises:
            ValueError: If there are fewer than two samples, or a feature is not finite.
        """
        count, mean, scatter = self.merged()
        if count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {int(count)}")
        if not (mean.isfinite().all() and scatter.isfinite().all()):
            raise ValueError(
                "some features are not finite: the extractor's weights or its input hold NaN or inf"
            )
        return Moments(count=int(count), mean=mean, covariance=scatter / (count - 1))


def moments_of(features: Float[Tensor, "n d"]) -> Moments:
    """Moments of features that are all at hand, the same in every process.

    Raises:
        ValueError: If there are fewer than two rows.
    """
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(features)}")
    rows = features.double()
    mean = rows.mean(0)
    rows = rows - mean
    return Moments(count=len(rows), mean=mean, covariance=_gram(rows) / (len(rows) - 1))


class VarianceAccumulator(_Accumulator):
    """Accumulator of samples of any shape, each element on its own: only the diagonal of the scatter matrix."""

    def __init__(self, *, shape: tuple[int, ...], device: torch.device | str = "cpu") -> None:
        super().__init__(shape=shape, scatter_shape=shape, device=device)

    @staticmethod
    def spread(rows: Float64[Tensor, "n ..."]) -> Float64[Tensor, "..."]:
        """Squares of the deviations, summed."""
        return rows.square().sum(0)

    def compute(self) -> ElementMoments:
        """The moments over all processes; not finite where a sample was not.

        Raises:
            ValueError: If there are fewer than two samples.
        """
        count, mean, scatter = self.merged()
        if round(count) < 2:  # weights such as 0.3 and 0.7 do not add up exactly
            raise ValueError(f"a variance needs at least 2 samples, got {round(count)}")
        return ElementMoments(count=round(count), mean=mean, variance=scatter / count)
