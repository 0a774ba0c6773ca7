"""Base of the encoders: frozen, from images in [0, 1] to a grid of tokens.

What one of your own must have is marked ``abstractmethod``: :meth:`Encoder.skeleton`. The rest has a meaning that suits
a module of torch whose weights lie in a folder (docs/encoders.md).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.conventions import IMAGENET_MEAN, IMAGENET_STD
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import load_safetensors, module_sha256, read_json
from unirae.core.strict import load_strictly
from unirae.models.encoders.fusion import Fusion, Visitor, check_layers
from unirae.models.encoders.grid import check_divisible, to_grid
from unirae.models.encoders.identity import EncoderIdentity, Rgb

_USUAL_GRID = 16


def _size(name: str, given: int | None, backbone: nn.Module) -> int:
    value = getattr(backbone, name, None) if given is None else given
    if not isinstance(value, int):
        raise ConfigError(
            f"{type(backbone).__name__} has no {name}: set it there, or hand {name}= to Encoder.__init__"
        )
    return value


class Backbone(NamedTuple):
    """A network and the statistics of its pixels, of RGB in [0, 1]."""

    network: nn.Module
    mean: Rgb
    std: Rgb


class Encoder(nn.Module, ABC):
    """A frozen ViT: patch tokens after its final LayerNorm without affine, prefix tokens dropped.

    The identity may choose several blocks instead of the last one: each one's tokens go through the final norm, and
    their mean or sum is the result (RAEv2, section 3; :class:`~unirae.models.encoders.fusion.Fusion`).

    It owns its pixel mean and std, stays in eval mode whatever its parent does, and has no trainable
    parameters. Gradients still flow through it to the images, which a perceptual loss needs.

    A subclass is built as ``cls(backbone=…, identity=…)``.

    Args:
        backbone: what :meth:`skeleton` gives; normalised pixels go in.
        identity: what a checkpoint writes down of it.
        width: numbers in a token; None is the backbone's ``width``.
        patch_size: side in pixels of the square that becomes one token; None is the backbone's ``patch_size``.

    Raises:
        ConfigError: If neither the arguments nor the backbone say width or patch size.
    """

    mean: Tensor
    std: Tensor
    keeps_affine: ClassVar[bool] = False
    """True where ``norm_affine`` and ``final_norm`` are heeded: the final norm is known, and what it gives is read."""
    default_mean: ClassVar[Rgb] = IMAGENET_MEAN
    default_std: ClassVar[Rgb] = IMAGENET_STD
    """Standard deviation of RGB in [0, 1] where neither the configuration nor the weights say another."""

    def __init__(
        self,
        *,
        backbone: nn.Module,
        identity: EncoderIdentity,
        width: int | None = None,
        patch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.width = _size("width", width, backbone)
        self.patch_size = _size("patch_size", patch_size, backbone)
        self.backbone = backbone.requires_grad_(False)
        if identity.norm_affine and not self.keeps_affine:
            raise ConfigError(
                f"{argument('encoder.norm_affine', True)}: encoders of kind {identity.kind} have no final norm whose "
                "affine part could be kept; set it to null"
            )
        if not identity.final_norm and not self.keeps_affine:
            raise ConfigError(
                f"{argument('encoder.final_norm', False)}: encoders of kind {identity.kind} have no final norm that "
                "could be left out; set it to true"
            )
        if identity.layers is not None:
            check_layers(identity.layers, self.num_blocks)
        self._identity = identity
        # not persistent: the identity carries them
        self.register_buffer("mean", torch.tensor(identity.pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(identity.pixel_std).view(3, 1, 1), persistent=False)
        self.eval()

    # ------------------------------------------------------------------ from a configuration to a network

    @classmethod
    @abstractmethod
    def skeleton(cls, architecture: dict[str, Any]) -> nn.Module:
        """The backbone with fresh weights, drawn from torch's global generator.

        Args:
            architecture: ``model.encoder.architecture``, plain values; a checkpoint keeps them.
        """

    @classmethod
    def pretrained(cls, source: str, *, name: str, architecture: dict[str, Any]) -> Backbone:
        """The backbone with its weights.

        By default from a folder with ``config.json``, the arguments of :meth:`skeleton`, and ``model.safetensors``, the
        ``state_dict()`` of what that gives.

        Args:
            source: a folder, or where the class knows a hub its name there.
            name: ``model.encoder.name``.
            architecture: ``model.encoder.architecture``, or what a checkpoint kept of it.

        Raises:
            WeightsError: If the weights are not there, or do not fit.
        """
        network, weights = cls.without_weights(source, name=name).network, Path(source) / "model.safetensors"
        if not weights.is_file():
            raise WeightsError(f"there is no {weights}, the tensors of a {cls.__name__}")
        load_strictly(network, load_safetensors(weights), what=f"encoder ({source})")
        return Backbone(network, cls.default_mean, cls.default_std)

    @classmethod
    def without_weights(cls, source: str, *, name: str, local_only: bool = False) -> Backbone:
        """The backbone as :meth:`pretrained` gives it, but for the weights: enough to know all shapes.

        Args:
            source, name: as there.
            local_only: do not ask a hub.

        Raises:
            WeightsError: If no configuration is there.
        """
        file = Path(source) / "config.json"
        if not file.is_file():
            raise WeightsError(
                f"there is no {file}: the folder of a {cls.__name__} holds config.json, the arguments of its skeleton, "
                "and model.safetensors"
            )
        return Backbone(cls.described(read_json(file)), cls.default_mean, cls.default_std)

    @classmethod
    def described(cls, architecture: Mapping[str, Any]) -> nn.Module:
        """:meth:`skeleton`, whose arguments the network remembers for :meth:`describe`.

        Raises:
            ConfigError: If the arguments are not those that the backbone takes.
        """
        arguments = dict(architecture)
        try:
            network = cls.skeleton(dict(arguments))
        except TypeError as error:
            if "argument" not in str(error):
                raise
            raise ConfigError(f"the architecture of a {cls.__name__}: {error}") from error
        network.unirae_architecture = arguments  # pyright: ignore[reportArgumentType]
        return network

    @classmethod
    def describe(cls, backbone: Any) -> dict[str, Any]:
        """The ``architecture`` that :meth:`skeleton` rebuilds this backbone from, ready for JSON."""
        return backbone.unirae_architecture

    @classmethod
    def hub_repository(cls, name: str) -> str | None:
        """Repository of a model on the Hugging Face hub, ``owner/name``; None where this class knows no hub."""
        return None

    @property
    def usual_size(self) -> tuple[int, int]:
        """The usual (height, width) in pixels of the encoder's images; by default those of 16 × 16 tokens."""
        return _USUAL_GRID * self.patch_size, _USUAL_GRID * self.patch_size

    # ------------------------------------------------------------------ from images to tokens

    def train(self, mode: bool = True) -> "Encoder":
        """Stay in eval mode: the encoder is frozen."""
        return super().train(False)

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the tensors, empty on the meta device; read once, for the weights never change."""
        return module_sha256(self.backbone)

    @property
    def identity(self) -> EncoderIdentity:
        """Identity of the encoder, to write into a checkpoint."""
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
            tokens = self.last_tokens(torch.zeros(1, 3, side, side, device=self.mean.device))
        return tokens.shape[1] - 4

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """RGB in [0, 1] to tokens: neither noised nor normalised by latent statistics."""
        return to_grid(self._tokens(images), self.grid(images))

    def with_dropped_blocks(
        self, images: Float[Tensor, "b 3 H W"], keep: Bool[Tensor, "b k"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """The tokens of :meth:`forward`, and those of the kept blocks, from one pass.

        Args:
            keep: for each image the chosen blocks that count, at least one of the k that the identity names.
        """
        fusion, grid = self._fused(images, keep), self.grid(images)
        return to_grid(fusion.result(), grid), to_grid(fusion.kept(), grid)

    def _tokens(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n c"]:
        """The tokens of :meth:`forward`, with those in front of the patches."""
        if self._identity.layers is None:
            self.grid(images)
            return self.last_tokens(self._pixels(images))
        return self._fused(images).result()

    def _fused(self, images: Float[Tensor, "b 3 H W"], keep: Bool[Tensor, "b k"] | None = None) -> Fusion:
        """One pass through the blocks down to the deepest chosen one."""
        rows, columns = self.grid(images)
        assert self._identity.layers is not None
        fusion = Fusion(
            layers=self._identity.layers,
            combine=self._identity.combine,
            add_token_mean=self._identity.add_token_mean,
            norm=self.final_norm,
            patches=rows * columns,
            keep=keep,
        )
        self.visit_blocks(self._pixels(images), self._identity.layers, fusion)
        return fusion

    @property
    def has_class_token(self) -> bool:
        """True where the first of the prefix tokens stands for the whole image."""
        return True

    def class_and_patch_tokens(
        self, images: Float[Tensor, "b 3 H W"]
    ) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c h w"]]:
        """Encode RGB in [0, 1] to the class token and to the grid of :meth:`forward`, from one pass.

        Raises:
            ConfigError: If this encoder has no class token.
        """
        grid = self.grid(images)
        tokens = self._tokens(images)
        patches = to_grid(tokens, grid)
        if not self.has_class_token or tokens.shape[1] == grid[0] * grid[1]:
            raise ConfigError(
                f"the encoder {self._identity.name} ({self._identity.kind}) has no class token; pool its patch tokens "
                "(pooling=avg)"
            )
        return tokens[:, 0], patches

    def feature_maps(self, images: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b c h w"]]:
        """RGB in [0, 1] to the patch tokens after each block, before the final norm."""
        grid = self.grid(images)
        return [to_grid(tokens, grid) for tokens in self.block_tokens(self._pixels(images))]

    def grid(self, images: Float[Tensor, "b 3 H W"]) -> tuple[int, int]:
        """The (rows, columns) of the tokens of such images."""
        height, width = images.shape[-2:]
        check_divisible("image height", height, self.patch_size)
        check_divisible("image width", width, self.patch_size)
        return height // self.patch_size, width // self.patch_size

    def _pixels(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        return (images - self.mean) / self.std

    def last_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n c"]:
        """Normalised pixels to one token per patch, row by row, after the final norm: by default the backbone's output.

        Class and register tokens may still stand in front; :meth:`forward` drops them.
        """
        return self.backbone(pixels)

    @property
    def num_blocks(self) -> int | None:
        """Number of blocks that :meth:`visit_blocks` goes through; None where only a pass tells."""
        return None

    def final_norm(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """The backbone's final norm, which the tokens of chosen blocks go through: by default the backbone's ``norm``.

        Raises:
            ConfigError: If the backbone has none of that name.
        """
        norm = getattr(self.backbone, "norm", None)
        if not isinstance(norm, nn.Module):
            raise ConfigError(
                f"{argument('encoder.layers')}: {type(self.backbone).__name__} has no norm; name its final norm so, or "
                f"override {type(self).__name__}.final_norm"
            )
        return norm(tokens)

    def visit_blocks(self, pixels: Float[Tensor, "b 3 H W"], layers: Sequence[int], visitor: Visitor) -> None:
        """Call ``visitor`` with each of these blocks, in rising order, and its tokens before the final norm.

        By default it takes them from :meth:`block_tokens`, which computes and holds those of every block.

        Raises:
            ConfigError: If this encoder does not give the tokens of its blocks, or has fewer.
        """
        tokens = self.block_tokens(pixels)
        for layer in check_layers(layers, len(tokens)):
            visitor(layer, tokens[layer])

    def block_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b n c"]]:
        """Normalised pixels to the tokens after each block; for :meth:`feature_maps`, which a perceptual loss may use.

        Raises:
            ConfigError: If this encoder does not give the tokens of its blocks.
        """
        raise ConfigError(
            f"the encoder {self._identity.name} ({self._identity.kind}) does not give its blocks' tokens "
            f"(block_tokens): {argument('encoder.layers')} must be null, and no loss can look through them (choose "
            f"{argument('perceptual', 'lpips')} or none)"
        )


def plain_norm(norm: nn.Module, width: int) -> nn.LayerNorm:
    """Strip ``norm`` of its affine part (RAE paper, section 3): latents then have unit scale per token."""
    eps = norm.eps if isinstance(norm, nn.LayerNorm) else 1e-6
    return nn.LayerNorm(width, eps=eps, elementwise_affine=False)
