"""The spectrum of an autoencoder's tokens: how many directions they use, which is what a generator has to model."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from unirae.metrics.moments import Moments


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Variances of tokens along their principal directions, each channel scaled to unit variance before.

    Attributes:
        shares: parts of the whole variance, in falling order; they add up to 1.
    """

    shares: tuple[float, ...]

    @property
    def effective_rank(self) -> float:
        """exp(−Σ p·ln p) of the shares p (Roy and Vetterli 2007): 1 for a line, the width for equal variances."""
        shares = torch.tensor(self.shares, dtype=torch.float64)
        return float(torch.exp(-torch.xlogy(shares, shares).sum()))

    def directions_for(self, part: float) -> int:
        """The number of directions that hold this part of the variance."""
        held = torch.tensor(self.shares, dtype=torch.float64).cumsum(0)
        return int((held < part * held[-1] * (1 - 1e-12)).sum()) + 1


def channel_deviation(tokens: Moments) -> Float64[Tensor, " c"]:
    """Standard deviation of each channel over images and places."""
    return tokens.covariance.diagonal().clamp_min(0.0).sqrt()


def spectrum_of(tokens: Moments) -> Spectrum:
    """The spectrum of tokens by their moments over images and places; a channel that never changes plays no part."""
    deviation = channel_deviation(tokens)
    alive = deviation > 0
    correlation = (tokens.covariance / torch.outer(deviation, deviation))[alive][:, alive]
    values = torch.linalg.eigvalsh(correlation.cpu()).clamp_min(0.0).flip(0)
    return Spectrum(shares=tuple((values / values.sum()).tolist()))
