"""The discriminator of RAE's stage 1: a frozen DINO ViT-S/8 whose features five small heads judge.

After StyleGAN-T (Sauer et al., arXiv 2301.09515). As in the official code the last block is judged twice:
heads sit on the tokens of blocks (last, 2, 5, 8, 11), in this order. Details of it that decide the numbers:
images are resized to 224 px, the MLP has the tanh GELU, and features are tokens before the final norm, without the
class token.

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
from torch.utils.checkpoint import checkpoint

from unirae.core.conventions import IMAGENET_MEAN, IMAGENET_STD
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import load_tensors
from unirae.core.precision import full_precision
from unirae.core.weights import find_weights
from unirae.models.discriminators.base import Discriminator
from unirae.nn.block import Block
from unirae.nn.feed_forward import Mlp
from unirae.nn.spectral_norm import SpectralNormConv1d, advance_spectral_norm

DINO_URL = (
    "https://huggingface.co/nyu-visionx/RAE-collections/resolve/main/discs/dino_vit_small_patch8_224.pth"
)

_OUR_NAMES = {
    ".norm1.": ".attention_norm.",
    ".attn.qkv.": ".attention.qkv.",
    ".attn.proj.": ".attention.out.",
    ".norm2.": ".mlp_norm.",
    ".mlp.fc1.": ".mlp.expand.",
    ".mlp.fc2.": ".mlp.contract.",
}


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


class DinoFeatures(nn.Module):
    """DINO (Caron et al., arXiv 2104.14294), frozen: tokens of the last block and of chosen ones.

    Random until :meth:`load_official`.
    """

    pixel_scale: Tensor
    pixel_shift: Tensor

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        num_heads: int,
        patch_size: int,
        input_size_px: int,
        key_depths: tuple[int, ...],
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if input_size_px % patch_size:
            raise ConfigError(f"{input_size_px=} must be divisible by {patch_size=}")
        self.input_size_px = input_size_px
        self.key_depths = key_depths
        self.gradient_checkpointing = gradient_checkpointing
        num_tokens = (input_size_px // patch_size) ** 2 + 1
        self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02))
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, num_tokens, width), std=0.02))
        self.patch_embed = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.blocks = nn.ModuleList(_block(width, num_heads) for _ in range(depth))
        mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
        # From [-1, 1] to ImageNet's normalisation: ((x + 1)/2 − mean)/std.
        self.register_buffer("pixel_scale", 0.5 / std, persistent=False)
        self.register_buffer("pixel_shift", (0.5 - mean) / std, persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b c n"]]:
        """Tokens, from images in [-1, 1], of the last block and then of every key depth."""
        size = (self.input_size_px, self.input_size_px)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        x = self.patch_embed(images * self.pixel_scale + self.pixel_shift).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        kept = {}
        for index, block in enumerate(self.blocks):
            # in the discriminator's own turn images have no gradient, and nothing is kept anyway
            recomputed = self.gradient_checkpointing and x.requires_grad
            x = checkpoint(block, x, use_reentrant=False) if recomputed else block(x)
            if index in self.key_depths:
                kept[index] = x
        return [tokens[:, 1:].transpose(1, 2) for tokens in (x, *(kept[i] for i in self.key_depths))]

    def load_official(self, weights: str | Path) -> None:
        """Load ``"hub"`` or a local DINO weight file, strictly.

        The official file and Meta's ``dino_deitsmall8_pretrain.pth`` share their keys; their final norm is
        not used here. The key bias is zeroed as in the official code; softmax cancels it up to rounding.
        """
        path = find_weights(
            weights,
            url=DINO_URL,
            file_name=DINO_URL.rsplit("/", 1)[-1],
            what="DINO ViT-S/8 of the discriminator",
            option="discriminator.weights",
        )
        state = load_tensors(path)
        ours = {_our_name(key): value for key, value in state.items() if not key.startswith("norm.")}
        try:
            self.load_state_dict(ours)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip()[:200]
            raise WeightsError(
                f"{path} does not fit the discriminator's DINO ViT, which loads {DINO_URL}: {reason}"
            ) from None
        for name, parameter in self.named_parameters():
            if name.endswith(".qkv.bias"):
                parameter.chunk(3)[1].zero_()


def _block(width: int, num_heads: int) -> Block:
    """Build a block with the approximate GELU of the official discriminator; DINO was trained with the exact one."""
    block = Block(width=width, num_heads=num_heads, mlp_width=4 * width, norm_eps=1e-6)
    block.mlp = Mlp(width=width, hidden_width=4 * width, approximate="tanh")
    return block


def _our_name(key: str) -> str:
    """The official key in the terms of :class:`unirae.nn.block.Block`."""
    key = key.replace("patch_embed.proj.", "patch_embed.")
    for theirs, ours in _OUR_NAMES.items():
        key = key.replace(theirs, ours)
    return key
