"""The position-wise feed-forward networks of a transformer block."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.nn.parameter_groups import Shared


class Mlp(nn.Module):
    """MLP: linear, GELU (exact, or its tanh approximation), linear."""

    def __init__(
        self, *, width: int, hidden_width: int, approximate: Literal["none", "tanh"] = "none"
    ) -> None:
        super().__init__()
        self.approximate: Literal["none", "tanh"] = approximate
        self.expand = nn.Linear(width, hidden_width)
        self.contract = nn.Linear(hidden_width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Transform each token by itself."""
        return self.contract(_gelu(self.expand(x), self.approximate))


def _gelu(x: Float[Tensor, "..."], approximate: Literal["none", "tanh"]) -> Float[Tensor, "..."]:
    """PyTorch's; where torch.compile fuses it, the approximation without its tanh, which takes most of the time."""
    fused = approximate == "tanh" and torch.compiler.is_compiling()
    return _tanh_gelu_by_sigmoid(x) if fused else F.gelu(x, approximate=approximate)


def _tanh_gelu_by_sigmoid(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Tanh GELU by a sigmoid: x·(1 + tanh u)/2 with u = √(2/π)·(x + 0.044715·x³), as x·σ(2u)."""
    return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


_ALIGNMENT = 8
"""Numbers of 16 bits in 16 bytes: rows of other lengths keep a GPU from its fast products."""


class SwiGlu(nn.Module):
    """SwiGLU: silu(a)·b, then a linear layer (Shazeer 2020); one packed projection holds a, then b.

    Published widths are two thirds of an MLP's, so for a DiT^DH head 5461. On CUDA such a width is filled up with zeros
    for the products: silu(0)·0 adds nothing.
    """

    def __init__(self, *, width: int, hidden_width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * hidden_width)
        self.contract = nn.Linear(hidden_width, width)

    def shared_weight(self) -> Shared:
        """The weight of a, the gate, and b."""
        return Shared(self.expand.weight, 2, "projections")

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Transform each token by itself."""
        expand, contract = self.expand, self.contract
        missing = -contract.in_features % _ALIGNMENT if _wants_alignment(x) else 0
        if not missing:
            return contract(self._gate(expand(x)))
        weight, bias = expand.weight.unflatten(0, (2, -1)), expand.bias.unflatten(0, (2, -1))
        packed = F.linear(
            x, F.pad(weight, (0, 0, 0, missing)).flatten(0, 1), F.pad(bias, (0, missing)).flatten()
        )
        return F.linear(self._gate(packed), F.pad(contract.weight, (0, missing)), contract.bias)

    @staticmethod
    def _gate(packed: Float[Tensor, "b n two_h"]) -> Float[Tensor, "b n h"]:
        a, b = packed.chunk(2, dim=-1)
        return F.silu(a) * b


def _wants_alignment(x: Tensor) -> bool:
    return x.device.type == "cuda"
