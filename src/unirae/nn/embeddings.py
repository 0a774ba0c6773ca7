"""Embeddings of the condition of a diffusion transformer: the time, and tokens that carry the condition."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.precision import full_precision, without_autocast
from unirae.nn.norms import RMSNorm


class TimeEmbedding(nn.Module):
    """Random Fourier features of the time through a small MLP (Tancik et al. 2020; DDT's embedding).

    The frequencies W ~ N(0, 1) are drawn once. They are part of the model, so a checkpoint holds them: as a parameter,
    which the reference counts among its parameters too.

    Args:
        train_frequencies: train W, as both versions of the reference do (``requires_grad_(True)`` in their train.py).
    """

    keeps_full_precision = True
    """Mark for :class:`~unirae.nn.kernels.narrow_weights.NarrowWeights`."""

    def __init__(self, *, width: int, num_frequencies: int = 256, train_frequencies: bool = False) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(num_frequencies), requires_grad=train_frequencies)
        self.expand = nn.Linear(2 * num_frequencies, width)
        self.contract = nn.Linear(width, width)

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Times in [0, 1] to embeddings; in at least float32 throughout (recipe, trap 5)."""
        with without_autocast(t):
            angle = full_precision(t)[:, None] * self.frequencies * (2.0 * math.pi)
            features = torch.cat([angle.sin(), angle.cos()], dim=-1)
            return self.contract(nn.functional.silu(self.expand(features)))


class ConditionTokens(nn.Module):
    """Time and condition as tokens of a sequence (RAEv2, arXiv 2605.18324): learned tokens, each plus the embedding.

    Args:
        num_condition: 0 where the condition has tokens of its own, as a text has.
    """

    def __init__(self, *, width: int, num_time: int, num_condition: int) -> None:
        super().__init__()
        self.time = nn.Parameter(torch.empty(num_time, width))
        self.condition = nn.Parameter(torch.empty(num_condition, width)) if num_condition else None

    def reset(self) -> None:
        """Draw the learned tokens from N(0, 1/width)."""
        for tokens in (self.time, self.condition):
            if tokens is not None:
                nn.init.normal_(tokens, std=tokens.shape[1] ** -0.5)

    def forward(
        self, time: Float[Tensor, "b d"], condition: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """The time's tokens, then the condition's, of their embeddings."""
        of_time = self.time + time[:, None]
        if self.condition is None:
            return of_time
        assert condition is not None
        return torch.cat([of_time, self.condition + condition[:, None]], dim=1)


class TextTokens(nn.Module):
    """Hidden states of a text encoder as tokens of a sequence: RMS norm, then linear (recipe of RAEv2, section 4)."""

    def __init__(self, *, text_width: int, width: int) -> None:
        super().__init__()
        self.norm = RMSNorm(text_width)
        self.linear = nn.Linear(text_width, width)

    def forward(self, text: Float[Tensor, "b l text"]) -> Float[Tensor, "b l d"]:
        """One token for each of the text's; those that are filling, too."""
        return full_precision(self.linear(self.norm(text)))
