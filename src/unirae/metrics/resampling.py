"""Uncertainty of a Fréchet distance of N images, from the features of those images.

- :func:`bootstrap`: the spread of the distance over resamples of the images. Only the spread is used: a resample holds
  fewer different images, so its distance is biased upward (recipe, trap 13).
- :func:`extrapolate`: the distance at infinitely many images (Chong and Forsyth 2020, section 4). To first order the
  bias is proportional to 1/N, so distances of random subsets of different sizes lie on a line over 1/N, and its
  intercept has none.

The reference is taken as given.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64
from torch import Generator, Tensor

from unirae.core.errors import ConfigError
from unirae.metrics.base import Estimate
from unirae.metrics.frechet import cholesky_factor, frechet_distance
from unirae.metrics.moments import Moments, moments_of

_SUBSET_SIZES = 8
_LEAST_TO_EXTRAPOLATE = 100
_SMALLEST_PART = 0.25
"""Size of the smallest subset of an extrapolation, as a part of all images."""


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Method of stating how sure a Fréchet distance is.

    Attributes:
        resamples: of a bootstrap.
        seed: of the draws.
    """

    method: Literal["bootstrap", "extrapolate"]
    resamples: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method == "bootstrap" and self.resamples < 2:
            raise ConfigError(f"resamples={self.resamples}: the spread of a bootstrap needs at least 2")

    @property
    def how(self) -> str:
        """The method of a bootstrap, in words."""
        return f"bootstrap over images, {self.resamples} resamples, the reference given"

    def is_in(self, known: Mapping[str, Any]) -> bool:
        """Say whether the record of an estimate's uncertainty has what this method gives."""
        return (
            "at_infinite_count" in known if self.method == "extrapolate" else known.get("method") == self.how
        )

    @property
    def least_images(self) -> int:
        """Number of images that the method needs."""
        return _LEAST_TO_EXTRAPOLATE if self.method == "extrapolate" else 2


def with_confidence(features: Float[Tensor, "n d"], reference: Moments, confidence: Confidence) -> Estimate:
    """The Fréchet distance of the features to the reference, with the uncertainty that is asked for."""
    value = frechet_distance(moments_of(features), reference)
    if confidence.method == "bootstrap":
        error = bootstrap(features, reference, resamples=confidence.resamples, seed=confidence.seed)
        return Estimate(value=value, standard_error=error, method=confidence.how)
    limit = extrapolate(features, reference, seed=confidence.seed)
    return Estimate(
        value=value, details={"at_infinite_count": limit.value, "of_the_limit": limit.uncertainty()}
    )


def bootstrap(
    features: Float[Tensor, "n d"], reference: Moments, *, resamples: int = 20, seed: int = 0
) -> float:
    """Standard deviation of the distance over resamples with replacement.

    Raises:
        ValueError: If there are fewer than two resamples.
    """
    if resamples < 2:
        raise ValueError(f"a spread needs at least 2 resamples, got {resamples}")
    distance = _DistanceTo(reference)
    draws, rows = Generator().manual_seed(seed), features.double()
    values = [
        distance(rows[torch.randint(len(rows), (len(rows),), generator=draws)]) for _ in range(resamples)
    ]
    return float(torch.tensor(values, dtype=torch.float64).std())


def extrapolate(features: Float[Tensor, "n d"], reference: Moments, *, seed: int = 0) -> Estimate:
    """The intercept of the least-squares line through distances over 1/N, with its standard error.

    Raises:
        ValueError: If there are fewer than 100 images.
    """
    count = len(features)
    if count < _LEAST_TO_EXTRAPOLATE:
        raise ValueError(
            f"{count} images are too few to extrapolate from; give {_LEAST_TO_EXTRAPOLATE}, better thousands"
        )
    distance = _DistanceTo(reference)
    draws, rows = Generator().manual_seed(seed), features.double()
    smallest = math.ceil(_SMALLEST_PART * count)
    sizes = torch.linspace(smallest, count, _SUBSET_SIZES).round().long().tolist()
    values = [distance(rows[torch.randperm(count, generator=draws)[:size]]) for size in sizes]
    inverse = torch.tensor([[1.0, 1.0 / size] for size in sizes], dtype=torch.float64)
    observed = torch.tensor(values, dtype=torch.float64)
    line = torch.linalg.lstsq(inverse, observed).solution
    variance = (observed - inverse @ line).square().sum() / (len(sizes) - 2)
    return Estimate(
        value=float(line[0]),
        standard_error=float((variance * torch.linalg.inv(inverse.T @ inverse)[0, 0]).sqrt()),
        method=f"line over 1/N through {len(sizes)} subsets of {sizes[0]} to {sizes[-1]} images",
    )


class _DistanceTo:
    """Distances of many sets to one reference, whose factor is computed once.

    With Σ₂ = F·Fᵀ the trace of √(Σ₁Σ₂) is that of √(Fᵀ Σ₁ F), which is symmetric. This loses some digits against
    :func:`frechet_distance` and is far below the spread that it is used for.
    """

    def __init__(self, reference: Moments) -> None:
        self._mean, self._trace = reference.mean.cpu(), reference.covariance.cpu().trace()
        self._factor = cholesky_factor(reference.covariance.cpu())

    def __call__(self, rows: Float64[Tensor, "n d"]) -> float:
        mean = rows.mean(0)
        centred = (rows - mean) / math.sqrt(len(rows) - 1)
        projected = centred @ self._factor
        small = projected @ projected.T if len(rows) < projected.shape[1] else projected.T @ projected
        trace_of_root = torch.linalg.eigvalsh(small).clamp_min(0.0).sqrt().sum()
        difference = mean - self._mean
        distance = difference.dot(difference) + centred.square().sum() + self._trace - 2.0 * trace_of_root
        return max(float(distance), 0.0)
