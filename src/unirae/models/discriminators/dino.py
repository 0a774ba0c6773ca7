"""The discriminator of RAE's stage 1: a frozen DINO ViT-S/8 whose features five small heads judge.

After StyleGAN-T (Sauer et al., arXiv 2301.09515). As in the official code the last block is judged twice:
heads sit on the tokens of blocks (last, 2, 5, 8, 11), in this order.

Departure: spectral norm advances on request (:mod:`unirae.nn.spectral_norm`), where the reference advances it
in every forward pass in training mode, so twice per update.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.errors import ConfigError
from unirae.core.precision import full_precision
from unirae.models.discriminators.base import Discriminator
from unirae.models.discriminators.dino_features import DinoFeatures
from unirae.nn.spectral_norm import SpectralNormConv1d, advance_spectral_norm


class DinoDiscriminator(Discriminator):
    """Frozen DINO features, trained heads.

    Args:
        weights: ``"hub"``, a local file (the official ``dino_vit_small_patch8_224.pth``, or Meta's
            ``dino_deitsmall8_pretrain.pth``, which has the same keys), or ``"random"`` for smoke tests.
        width: of the ViT.
        depth: number of its blocks.
        num_heads: of its attention.
        patch_size: in pixels.
        input_size_px: images are resized to this square.
        key_depths: blocks (0-based) whose output a head judges, besides the last one.
        kernel_size: of the heads' wide convolution along tokens.
        gradient_checkpointing: recompute the backbone's blocks in the generator's backward pass: less memory.
        seed: of random weights.
    """

    def __init__(
        self,
        *,
        weights: str | Path = "hub",
        width: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        patch_size: int = 8,
        input_size_px: int = 224,
        key_depths: Sequence[int] = (2, 5, 8, 11),
        kernel_size: int = 9,
        gradient_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not all(0 <= i < depth for i in key_depths):
            raise ConfigError(f"key_depths={list(key_depths)} must lie in 0..{depth - 1} (depth={depth})")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = DinoFeatures(
                width=width,
                depth=depth,
                num_heads=num_heads,
                patch_size=patch_size,
                input_size_px=input_size_px,
                key_depths=tuple(key_depths),
                gradient_checkpointing=gradient_checkpointing,
            )
        if str(weights) != "random":
            self.backbone.load_official(weights)
        self.backbone.requires_grad_(False).eval()
        self.heads = nn.ModuleList(make_head(width, kernel_size) for _ in range(len(key_depths) + 1))

    def train(self, mode: bool = True) -> "DinoDiscriminator":
        """Switch the heads; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n"]:
        """Logits of images in [-1, 1]: one per token and head."""
        features = self.backbone(images)
        logits = [head(tokens).flatten(1) for head, tokens in zip(self.heads, features, strict=True)]
        return torch.cat(logits, dim=1)

    @property
    def trained(self) -> nn.Module:
        """The heads: only they are trained."""
        return self.heads

    def power_iteration(self) -> None:
        """Advance the heads' spectral norm by one step."""
        advance_spectral_norm(self.heads)


def make_head(channels: int, kernel_size: int) -> nn.Sequential:
    """Tokens ``b c n`` to logits ``b 1 n``; keys are those of the official heads."""
    return nn.Sequential(
        _head_block(channels, kernel_size=1),
        _Residual(_head_block(channels, kernel_size)),
        SpectralNormConv1d(channels, 1, kernel_size=1),
    )


def _head_block(channels: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        SpectralNormConv1d(
            channels, channels, kernel_size, padding=kernel_size // 2, padding_mode="circular"
        ),
        TokenNorm(channels),
        nn.LeakyReLU(0.2, inplace=True),
    )


class _Residual(nn.Module):
    """Residual connection, (fn(x) + x) / √2, which keeps the variance."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c n"]:
        return (self.fn(x) + x) * math.sqrt(0.5)


class TokenNorm(nn.Module):
    """Normalise each image's each channel over its tokens, in full precision; no running statistics."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c n"]:
        """Normalise: (x − mean) / √(var + ε) with the biased variance, then the affine map."""
        return F.instance_norm(full_precision(x), weight=self.weight, bias=self.bias, eps=self.eps)
