"""What every encoder is to the rest of the house: frozen, and images in [0, 1] to a grid of tokens."""

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.errors import ConfigError
from unirae.core.io import state_sha256
from unirae.models.encoders.identity import EncoderIdentity


def check_divisible(name: str, value: int, patch_size: int) -> None:
    """Refuse a length in pixels that does not split into patches, naming the nearest ones that do."""
    if value > 0 and value % patch_size == 0:
        return
    below = value // patch_size * patch_size
    nearest = ", ".join(str(size) for size in (below, below + patch_size) if size > 0)
    raise ConfigError(
        f"{name}={value} must be divisible by patch_size={patch_size}; nearest valid: {nearest}"
    )


class Encoder(nn.Module, ABC):
    """A frozen ViT: patch tokens after its final LayerNorm without affine, prefix tokens dropped.

    It owns its pixel mean and std, stays in eval mode whatever its parent does, and has no trainable
    parameters. Gradients still flow through it to the images, which a perceptual loss needs.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, *, backbone: nn.Module, width: int, patch_size: int, identity: EncoderIdentity
    ) -> None:
        super().__init__()
        self.width, self.patch_size = width, patch_size
        self.backbone = backbone.requires_grad_(False)
        self._identity = identity
        # not persistent: the identity carries them
        self.register_buffer("mean", torch.tensor(identity.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(identity.pixel_std).view(3, 1, 1), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> "Encoder":
        """Stay in eval mode: the encoder is frozen."""
        return super().train(False)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the tensors, empty on the meta device; read once, for the weights never change."""
        state = self.backbone.state_dict()
        return "" if any(t.is_meta for t in state.values()) else state_sha256(state)

    @property
    def identity(self) -> EncoderIdentity:
        """What to write into a checkpoint."""
        return replace(self._identity, sha256=self.weights_sha256)

    @property
    def identity_without_hash(self) -> EncoderIdentity:
        """:attr:`identity` without reading the weights, for who wants only name and numbers."""
        return self._identity

    @cached_property
    def num_prefix_tokens(self) -> int:
        """Class and register tokens in front of the patches, counted on an image of four patches."""
        side = 2 * self.patch_size
        with torch.no_grad():
            tokens = self._last_tokens(torch.zeros(1, 3, side, side, device=self.mean.device))
        return tokens.shape[1] - 4

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """RGB in [0, 1] to tokens: neither noised nor normalised by latent statistics."""
        grid = self.grid(images)
        return _to_grid(self._last_tokens(self._pixels(images)), grid)

    @property
    def has_class_token(self) -> bool:
        """Whether the first of its prefix tokens stands for the whole image."""
        return True

    def class_and_patch_tokens(
        self, images: Float[Tensor, "b 3 H W"]
    ) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c h w"]]:
        """RGB in [0, 1] to the class token and to what :meth:`forward` gives, from one pass.

        Raises:
            ConfigError: this encoder has no class token.
        """
        grid = self.grid(images)
        tokens = self._last_tokens(self._pixels(images))
        patches = _to_grid(tokens, grid)
        if not self.has_class_token or tokens.shape[1] == grid[0] * grid[1]:
            raise ConfigError(
                f"the encoder {self._identity.name} ({self._identity.kind}) has no class token; pool its patch tokens "
                "(pooling=avg)"
            )
        return tokens[:, 0], patches

    def feature_maps(self, images: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b c h w"]]:
        """RGB in [0, 1] to the patch tokens after each block, before the final norm."""
        grid = self.grid(images)
        return [_to_grid(tokens, grid) for tokens in self._block_tokens(self._pixels(images))]

    def grid(self, images: Float[Tensor, "b 3 H W"]) -> tuple[int, int]:
        """(rows, columns) of the tokens of such images."""
        height, width = images.shape[-2:]
        check_divisible("image height", height, self.patch_size)
        check_divisible("image width", width, self.patch_size)
        return height // self.patch_size, width // self.patch_size

    def _pixels(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        return (images - self.mean) / self.std

    @abstractmethod
    def _last_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n c"]:
        """Tokens after the final norm, prefix tokens still in front."""

    @abstractmethod
    def _block_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b n c"]]:
        """Tokens after each block, prefix tokens still in front."""


def _to_grid(tokens: Float[Tensor, "b n c"], grid: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """Drop what stands before the patch tokens (class, registers) and lay the rest out row by row."""
    rows, columns = grid
    if tokens.ndim != 3 or tokens.shape[1] < rows * columns:
        raise ConfigError(
            f"the encoder gave {tuple(tokens.shape)} for a {rows}×{columns} grid: it is not a plain ViT "
            "(one token per patch, class and register tokens in front)"
        )
    return tokens[:, -rows * columns :].transpose(1, 2).unflatten(2, grid)


def plain_norm(norm: nn.Module, width: int) -> nn.LayerNorm:
    """``norm`` without its affine part (RAE paper, section 3): latents then have unit scale per token."""
    eps = norm.eps if isinstance(norm, nn.LayerNorm) else 1e-6
    return nn.LayerNorm(width, eps=eps, elementwise_affine=False)
