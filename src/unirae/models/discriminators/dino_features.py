"""DINO's ViT (Caron et al., arXiv 2104.14294) as the discriminator reads it: frozen, intermediate tokens.

Details of the official RAE code that decide the numbers: images are resized to 224 px, the MLP has the tanh
GELU, and features are tokens before the final norm, without the class token.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unirae.core.conventions import IMAGENET_MEAN, IMAGENET_STD
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import load_tensors
from unirae.core.weights import find_weights
from unirae.nn.block import Block
from unirae.nn.feed_forward import Mlp

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


class DinoFeatures(nn.Module):
    """Tokens of the last block and of chosen blocks. Random until :meth:`load_official`."""

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
