"""Transformer layers that a condition steers (adaLN-Zero; Peebles and Xie 2023, section 3.2; LightningDiT's blocks).

The condition is one vector per image, [b, 1, d], or one per token, [b, n, d]. Each layer turns it into shift, scale
and gate by SiLU and a linear layer that starts at zero, so that a new block is the identity and a new output is zero.
The plain layers are the same without modulation, for networks whose condition is among the tokens (RAEv2).
"""

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unirae.nn.attention import SelfAttention
from unirae.nn.feed_forward import Mlp, SwiGlu
from unirae.nn.norms import LayerNorm, RMSNorm
from unirae.nn.parameter_groups import Shared
from unirae.nn.positions import RotaryPositions


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """Options of LightningDiT's blocks.

    Attributes:
        mlp_ratio: the MLP's width over the block's; SwiGLU takes two thirds of it.
        use_qknorm: normalise each head's queries and keys.
        use_swiglu: SwiGLU; otherwise tanh-GELU.
        use_rmsnorm: RMSNorm with weight; otherwise LayerNorm without.
    """

    mlp_ratio: float = 4.0
    use_qknorm: bool = False
    use_swiglu: bool = True
    use_rmsnorm: bool = True

    def norm(self, width: int) -> RMSNorm | LayerNorm:
        """The norm in front of attention, MLP and output."""
        return RMSNorm(width) if self.use_rmsnorm else LayerNorm(width, eps=1e-6, elementwise_affine=False)

    def attention(self, width: int, num_heads: int) -> SelfAttention:
        """Self-attention with its query and key norms."""
        norm = RMSNorm if self.use_rmsnorm else partial(LayerNorm, eps=1e-5)
        return SelfAttention(width=width, num_heads=num_heads, qk_norm=norm if self.use_qknorm else None)

    def feed_forward(self, width: int) -> nn.Module:
        """The MLP of a block."""
        hidden = int(width * self.mlp_ratio)
        if self.use_swiglu:
            return SwiGlu(width=width, hidden_width=int(2 / 3 * hidden))
        return Mlp(width=width, hidden_width=hidden, approximate="tanh")


class Modulation(nn.Module):
    """A condition to ``parts`` vectors; zero at the start."""

    def __init__(self, *, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(width, parts * width)

    def shared_weight(self) -> Shared:
        """The weight of all parts."""
        return Shared(self.linear.weight, self.parts, "modulation")

    def reset(self) -> None:
        """Set the modulation to zero: adaLN-Zero."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Float[Tensor, "b m d"]) -> tuple[Tensor, ...]:
        """Split the modulation of the condition into its parts, each [b, m, d]."""
        return self.linear(F.silu(condition)).chunk(self.parts, dim=-1)


class PlainBlock(nn.Module):
    """Block without modulation: x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, *, width: int, num_heads: int, options: BlockOptions) -> None:
        super().__init__()
        self.attention_norm = options.norm(width)
        self.attention = options.attention(width, num_heads)
        self.mlp_norm = options.norm(width)
        self.mlp = options.feed_forward(width)

    def reset(self) -> None:
        """Nothing here starts at zero."""

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        condition: Float[Tensor, "b m d"],
        rotary: RotaryPositions | None,
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """One layer; ``condition`` is not read. ``mask`` says which tokens are attended to."""
        x = x + self.attention(self.attention_norm(x), rotary, mask)
        return x + self.mlp(self.mlp_norm(x))


class ModulatedBlock(PlainBlock):
    """Modulated block: norm → modulate → attention → gate, norm → modulate → MLP → gate."""

    def __init__(self, *, width: int, num_heads: int, options: BlockOptions) -> None:
        super().__init__(width=width, num_heads=num_heads, options=options)
        self.modulation = Modulation(width=width, parts=6)

    def reset(self) -> None:
        """Set the modulation to zero."""
        self.modulation.reset()

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        condition: Float[Tensor, "b m d"],
        rotary: RotaryPositions | None,
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """One layer; ``condition`` has one vector per image (m = 1) or per token (m = n)."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition)
        x = x + gate_a * self.attention(self.attention_norm.modulated(x, shift_a, scale_a), rotary, mask)
        return x + gate_m * self.mlp(self.mlp_norm.modulated(x, shift_m, scale_m))


class PlainOutput(nn.Module):
    """Output without modulation: norm → linear, zero at the start."""

    def __init__(self, *, width: int, out_width: int, options: BlockOptions) -> None:
        super().__init__()
        self.norm = options.norm(width)
        self.linear = nn.Linear(width, out_width)

    def reset(self) -> None:
        """Set the output to zero."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, x: Float[Tensor, "b n d"], condition: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b n out"]:
        """The prediction of each token; ``condition`` is not read."""
        return self.linear(self.norm(x))


class ModulatedOutput(nn.Module):
    """Modulated output: norm → modulate → linear, zero at the start."""

    def __init__(self, *, width: int, out_width: int, options: BlockOptions) -> None:
        super().__init__()
        self.norm = options.norm(width)
        self.modulation = Modulation(width=width, parts=2)
        self.linear = nn.Linear(width, out_width)

    def reset(self) -> None:
        """Modulation and output to zero."""
        self.modulation.reset()
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, x: Float[Tensor, "b n d"], condition: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b n out"]:
        """The prediction of each token."""
        shift, scale = self.modulation(condition)
        return self.linear(self.norm.modulated(x, shift, scale))
