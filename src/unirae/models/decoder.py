"""The decoder of a representation autoencoder: a plain ViT from tokens to pixels (RAE paper, section 3).

It is MAE's decoder (He et al. 2021) without mask tokens. Two departures from MAE follow the official RAE
code: the class token in front is the decoder's own, and the positions, sin-cos at the start, are trained.
Linear layers start from PyTorch's default, as there. A correction of the finished pixels is ours, and off by default.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.nn.block import Block
from unirae.nn.parameter_groups import ParameterGroups, group_parameters
from unirae.nn.positions import sincos_positions

DecoderOutput = Literal["encoder_pixels", "unit"]
_NORM_EPS = 1e-12  # MAE's
OF_OLDER_RECORDS: dict[str, Any] = {"output": "encoder_pixels", "deblocking": 0}
"""What a decoder has whose record does not say."""


class ViTDecoder(nn.Module):
    """Tokens of a frozen encoder to an image in that encoder's normalised pixel space, or in RGB.

    Args:
        token_dim: width of the encoder's tokens.
        grid: (rows, columns) of tokens it decodes; tokens of another grid are interpolated to it.
        patch_size: side of the square of pixels that one token becomes.
        output: the space of the pixels: "encoder_pixels", the encoder's normalised ones (RAE), or "unit", RGB in
            [0, 1] (RAEv2).
        deblocking: channels between two convolutions that correct the laid-out pixels, across the borders of patches,
            too; 0 is none, as in the papers: each patch is painted by itself.
        gradient_checkpointing: recompute each block in the backward pass: less memory, about a third slower.
    """

    def __init__(
        self,
        *,
        token_dim: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_width: int,
        patch_size: int,
        grid: tuple[int, int],
        output: DecoderOutput = "encoder_pixels",
        deblocking: int = 0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.architecture: dict[str, Any] = {
            "token_dim": token_dim,
            "width": width,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_width": mlp_width,
            "patch_size": patch_size,
            "grid": tuple(grid),
            "output": output,
            "deblocking": deblocking,
        }
        if output not in ("encoder_pixels", "unit"):
            raise ConfigError(
                f"{argument('decoder.output', output)} is unknown; choose encoder_pixels (RAE) or unit (RAEv2)"
            )
        self.token_dim, self.patch_size, self.output = token_dim, patch_size, output
        self.grid: tuple[int, int] = (int(grid[0]), int(grid[1]))
        self.gradient_checkpointing = gradient_checkpointing
        self.embed = nn.Linear(token_dim, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        positions = F.pad(sincos_positions(width, self.grid), (0, 0, 1, 0))  # the class token lies at zero
        self.positions = nn.Parameter(positions[None])
        self.blocks = nn.ModuleList(
            Block(width=width, num_heads=num_heads, mlp_width=mlp_width, norm_eps=_NORM_EPS)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)
        self.to_pixels = nn.Linear(width, patch_size**2 * 3)
        self.deblocking = Deblocking(deblocking) if deblocking else nn.Identity()

    @property
    def output_size(self) -> tuple[int, int]:
        """The (height, width) of the images in pixels."""
        return self.grid[0] * self.patch_size, self.grid[1] * self.patch_size

    @property
    def corrects(self) -> bool:
        """True where pixels are corrected across the borders of patches."""
        return isinstance(self.deblocking, Deblocking)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight whose gradients balance the losses (VQGAN's adaptive weight)."""
        weight = (
            self.deblocking.mix.weight if isinstance(self.deblocking, Deblocking) else self.to_pixels.weight
        )
        assert isinstance(weight, nn.Parameter)
        return weight

    def parameter_groups(self) -> ParameterGroups:
        """The trained parameters in groups: matrices are those of the blocks."""
        correction = ("deblocking",) if self.corrects else ()
        return group_parameters(self, edges=("embed", "to_pixels", *correction))

    def forward(self, tokens: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Un-normalised encoder tokens to pixels in the space that ``output`` names, not clamped."""
        if tokens.shape[-2:] != self.grid:
            tokens = F.interpolate(tokens, size=self.grid, mode="bilinear", align_corners=False)
        x = self.embed(tokens.flatten(2).transpose(1, 2))
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return self.deblocking(self._unpatchify(self.to_pixels(self.norm(x))[:, 1:]))

    def _unpatchify(self, patches: Float[Tensor, "b n p"]) -> Float[Tensor, "b 3 H W"]:
        """Lay the patches out: n (h w) (p q c) → n c (h p) (w q)."""
        squares = patches.unflatten(2, (self.patch_size, self.patch_size, 3)).unflatten(1, self.grid)
        return squares.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), 3, *self.output_size)


class Deblocking(nn.Module):
    """Pixels plus a correction that two 5 × 5 convolutions read off them; nothing at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(3, channels, 5, padding=2)
        self.mix = nn.Conv2d(channels, 3, 5, padding=2)
        for parameter in self.mix.parameters():
            nn.init.zeros_(parameter)

    def forward(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        return pixels + self.mix(F.gelu(self.widen(pixels), approximate="tanh"))
