"""Mean and covariance of a stream of feature vectors, in float64 and constant memory.

The updates are those of Chan, Golub and LeVeque (1983): deviations are taken from the mean so far, never from
zero, so nothing cancels where a feature's mean is far larger than its spread. The result does not depend on
the order or the size of the batches beyond float64 rounding, nor on the number of processes.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from unirae.core.distributed import all_sum


@dataclass(frozen=True, kw_only=True)
class Moments:
    """A Gaussian's parameters with the number of samples behind them; ``covariance`` divides by n − 1."""

    count: int
    mean: Float64[Tensor, " d"]
    covariance: Float64[Tensor, "d d"]


class MomentAccumulator:
    """Streaming count, mean and centred sum of outer products M = Σ (x − mean)(x − mean)ᵀ."""

    def __init__(self, *, width: int, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        if device.type == "mps":  # Metal has no float64
            device = torch.device("cpu")
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(width, width, dtype=torch.float64, device=device)

    def update(self, features: Float[Tensor, "b d"]) -> None:
        """Add a batch of feature vectors."""
        if not len(features):
            return
        features = features.to(self.mean.device, torch.float64)
        batch_mean = features.mean(0)
        centred = features - batch_mean
        shift = batch_mean - self.mean
        total = self.count + len(features)
        self.scatter.addmm_(centred.T, centred)
        self.scatter.add_(torch.outer(shift, shift) * (self.count * len(features) / total))
        self.mean = self.mean + shift * (len(features) / total)
        self.count = total

    def compute(self) -> Moments:
        """The moments over all processes; the state stays as it is, so more updates may follow.

        Raises:
            ValueError: fewer than two samples, or a feature that is not finite.
        """
        count = all_sum(self.count)
        if count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {int(count)}")
        mean = all_sum(self.mean * self.count) / count
        shift = self.mean - mean
        scatter = all_sum(self.scatter + torch.outer(shift, shift) * self.count)
        if not (mean.isfinite().all() and scatter.isfinite().all()):
            raise ValueError(
                "some features are not finite: the extractor's weights or its input hold NaN or inf"
            )
        return Moments(count=int(count), mean=mean, covariance=scatter / (count - 1))
