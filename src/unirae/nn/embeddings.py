"""Embeddings of the condition of a diffusion transformer: the time."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.precision import full_precision, without_autocast


class TimeEmbedding(nn.Module):
    """Random Fourier features of the time through a small MLP (Tancik et al. 2020; DDT's embedding).

    The frequencies W ~ N(0, 1) are drawn once and fixed. They are part of the model, so a checkpoint holds them: as a
    frozen parameter, which the reference counts among its parameters too.
    """

    keeps_full_precision = True
    """Mark for :class:`~unirae.nn.kernels.narrow_weights.NarrowWeights`."""

    def __init__(self, *, width: int, num_frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(num_frequencies), requires_grad=False)
        self.expand = nn.Linear(2 * num_frequencies, width)
        self.contract = nn.Linear(width, width)

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Times in [0, 1] to embeddings; in at least float32 throughout (recipe, trap 5)."""
        with without_autocast(t):
            angle = full_precision(t)[:, None] * self.frequencies * (2.0 * math.pi)
            features = torch.cat([angle.sin(), angle.cos()], dim=-1)
            return self.contract(nn.functional.silu(self.expand(features)))
