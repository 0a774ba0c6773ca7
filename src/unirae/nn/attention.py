"""Multi-head self-attention (Vaswani et al. 2017) with one projection for queries, keys and values."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unirae.core.errors import ConfigError
from unirae.nn.kernels.chunked_attention import chunked_attention
from unirae.nn.parameter_groups import Shared
from unirae.nn.positions import RotaryPositions

_CHUNKED_UP_TO = {2: 1024, 4: 512}
"""Tokens up to which :func:`chunked_attention` is the faster, by the bytes of a number."""


def attend(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads n d"],
    v: Float[Tensor, "b heads n d"],
    mask: Bool[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b heads n d"]:
    """Attend: softmax(q·kᵀ/√d)·v, by PyTorch's fused kernels, or on a CPU by large products where these are faster.

    So they are for few tokens where oneDNN makes the products: in 16 bits, or in 32 bits as
    ``torch.set_float32_matmul_precision`` says. With gradients the fused kernel takes 2 to 3 times as long at 256
    tokens and up to 9 times at 16 (docs/log.md). Scores and softmax are in 32 bits, as in the kernel: rounding the
    scores to 16 would cost an error that grows with them.

    Args:
        mask: which keys are attended to, at least one of each sample; None is all.
    """
    few = v.shape[-2] <= _CHUNKED_UP_TO.get(v.dtype.itemsize, 0)
    if v.device.type != "cpu" or not few or not (v.dtype.itemsize <= 2 or _onednn_makes_fp32_products()):
        attended = None if mask is None else mask[:, None, None]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=attended)
    with torch.autocast("cpu", enabled=False):
        return chunked_attention(q, k, v, mask)


def _onednn_makes_fp32_products() -> bool:
    return torch.get_float32_matmul_precision() != "highest"


# What torch.compiler.assume_constant_result would set, without importing the compiler, which takes 160 MB and a
# second: a run sets the precision once, and asking for it breaks the graph.
_onednn_makes_fp32_products._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


class SelfAttention(nn.Module):
    """Self-attention through PyTorch's fused kernels; the packed projection holds q, k, v in this order.

    Args:
        qk_norm: makes the normalisation of each head's queries and keys from a head's width; None is off.
    """

    def __init__(
        self, *, width: int, num_heads: int, qk_norm: Callable[[int], nn.Module] | None = None
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ConfigError(f"width={width} must be divisible by num_heads={num_heads}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm = qk_norm(width // num_heads) if qk_norm else nn.Identity()
        self.key_norm = qk_norm(width // num_heads) if qk_norm else nn.Identity()
        self.out = nn.Linear(width, width)

    def shared_weight(self) -> Shared:
        """The weight of q, k and v."""
        return Shared(self.qkv.weight, 3, "projections")

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        rotary: RotaryPositions | None = None,
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Let every token read every other, or those of ``mask``; ``rotary`` turns queries and keys by their places."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.query_norm(q), self.key_norm(k)
        if rotary is not None:
            q, k = rotary(q), rotary(k)
        heads = attend(q.to(v.dtype), k.to(v.dtype), v, mask)
        return self.out(heads.transpose(1, 2).flatten(2))
