"""The position-wise feed-forward networks of a transformer block."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear, GELU (exact, or its tanh approximation), linear."""

    def __init__(
        self, *, width: int, hidden_width: int, approximate: Literal["none", "tanh"] = "none"
    ) -> None:
        super().__init__()
        self.approximate = approximate
        self.expand = nn.Linear(width, hidden_width)
        self.contract = nn.Linear(hidden_width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Transform each token by itself."""
        return self.contract(F.gelu(self.expand(x), approximate=self.approximate))


class SwiGlu(nn.Module):
    """silu(a)·b, then a linear layer (Shazeer 2020); one packed projection holds a, then b."""

    def __init__(self, *, width: int, hidden_width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * hidden_width)
        self.contract = nn.Linear(hidden_width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Transform each token by itself."""
        a, b = self.expand(x).chunk(2, dim=-1)
        return self.contract(F.silu(a) * b)
