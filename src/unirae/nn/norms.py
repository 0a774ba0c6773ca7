"""Normalisation layers that compute in 32 bits, whatever the precision around them (recipe, trap 5)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.precision import full_precision


class RMSNorm(nn.Module):
    """x / √(mean(x²) + ε) · weight over the last dimension (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Normalised, at least float32."""
        return F.rms_norm(full_precision(x), (self.width,), self.weight, self.eps)


class LayerNorm(nn.LayerNorm):
    """PyTorch's, computed in at least 32 bits."""

    def forward(self, input: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Normalised, at least float32."""
        return super().forward(full_precision(input))
