"""The pre-norm transformer block of ViT (Dosovitskiy et al. 2021, section 3.1)."""

from jaxtyping import Float
from torch import Tensor, nn

from unirae.nn.attention import SelfAttention
from unirae.nn.feed_forward import Mlp


class Block(nn.Module):
    """Transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, *, width: int, num_heads: int, mlp_width: int, norm_eps: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=norm_eps)
        self.attention = SelfAttention(width=width, num_heads=num_heads)
        self.mlp_norm = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width=width, hidden_width=mlp_width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Run one layer; the residual stream keeps its scale."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))
