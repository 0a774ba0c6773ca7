"""Normalisation layers that compute in 32 bits, whatever the precision around them (recipe, trap 5)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.distributed import all_sum
from unirae.core.precision import full_precision
from unirae.nn.kernels.fused import modulated_rms_norm


class RMSNorm(nn.Module):
    """RMS norm: x / √(mean(x²) + ε) · weight over the last dimension (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Normalise, in float32 at least."""
        return F.rms_norm(full_precision(x), (self.width,), self.weight, self.eps)

    def modulated(
        self, x: Float[Tensor, "b n d"], shift: Float[Tensor, "b m d"], scale: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b n d"]:
        """Normalise, multiply by 1 + scale, add shift; in autocast's type where that is on, else at least float32."""
        return modulated_rms_norm(x, self.weight, shift, scale, eps=self.eps)


class LayerNorm(nn.LayerNorm):
    """PyTorch's, computed in at least 32 bits."""

    def forward(self, input: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Normalise, in float32 at least."""
        return super().forward(full_precision(input))

    def modulated(
        self, x: Float[Tensor, "b n d"], shift: Float[Tensor, "b m d"], scale: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b n d"]:
        """Normalised, times 1 + scale, plus shift; at least float32."""
        return self(x) * (1.0 + scale) + shift


class FeatureNorm(nn.Module):
    """Batch normalisation of frozen features, without affine, which MAE's linear probe puts before its head.

    In training the moments are those of the micro-batch over all processes, so their number changes nothing; their
    running averages serve in eval mode. No gradient passes: frozen features have none.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, width: int, *, momentum: float = 0.1, eps: float = 1e-6) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("var", torch.ones(width))

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Normalise, in float32 at least."""
        x = full_precision(x)
        mean, var = self.mean, self.var
        if self.training:
            sums = all_sum(torch.cat([x.sum(0), x.new_full((1,), len(x))]))
            mean, count = sums[:-1] / sums[-1], sums[-1]
            var = all_sum((x - mean).square().sum(0)) / count
            self.mean.lerp_(mean, self.momentum)
            self.var.lerp_(var, self.momentum)
        return (x - mean) / (var + self.eps).sqrt()
