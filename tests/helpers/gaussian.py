"""A flow that can be solved on paper: data N(mean, std²), independent in every element."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GaussianFlow:
    """The exact velocity between N(mean, std²) at t = 0 and N(0, 1) at t = 1, and its exact solution."""

    mean: float = 1.5
    std: float = 0.6

    def spread(self, t: float) -> float:
        """The standard deviation of x_t."""
        return math.hypot((1 - t) * self.std, t)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """E[ε − x | x_t]."""
        growth = (t - (1 - t) * self.std**2) / self.spread(t) ** 2
        return growth * (x - (1 - t) * self.mean) - self.mean

    def solution(self, noise: Tensor, t: float) -> Tensor:
        """x_t on the path that starts at ``noise``."""
        return (1 - t) * self.mean + self.spread(t) * noise
