"""Multi-head self-attention (Vaswani et al. 2017) with one projection for queries, keys and values."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.errors import ConfigError


class SelfAttention(nn.Module):
    """Self-attention through PyTorch's fused kernels; the packed projection holds q, k, v in this order."""

    def __init__(self, *, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ConfigError(f"width={width} must be divisible by num_heads={num_heads}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Let every token read every other."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v)
        return self.out(heads.transpose(1, 2).flatten(2))
