"""Sizes that follow from an encoder before anything is trained on it: patch, width, prefix tokens, pixels, latents.

For a model that is not loaded its configuration is enough: a few kilobytes, built on the meta device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unirae.core.weights import carried_folder
from unirae.flow.times import time_shift
from unirae.models.encoders.base import Backbone, Encoder
from unirae.models.encoders.build import adapter, hub_repository
from unirae.models.encoders.grid import check_divisible
from unirae.models.encoders.identity import EncoderIdentity, Rgb


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """Sizes of an encoder.

    Attributes:
        num_prefix_tokens: class and register tokens in front of the patches; counted, not looked up.
        usual_size: (height, width) in pixels that it was made for.
    """

    name: str
    kind: str
    patch_size: int
    width: int
    num_prefix_tokens: int
    mean: Rgb
    std: Rgb
    usual_size: tuple[int, int]

    def latent(self, size: tuple[int, int]) -> "LatentShape":
        """Shape of the latents of images of (height, width) pixels.

        Raises:
            ConfigError: If the images do not split into patches.
        """
        for side in size:
            check_divisible("image_size", side, self.patch_size)
        rows, columns = (side // self.patch_size for side in size)
        return LatentShape(size=size, tokens=(self.width, rows, columns))


@dataclass(frozen=True, kw_only=True)
class LatentShape:
    """Tokens of images of one size: (channels, rows, columns)."""

    size: tuple[int, int]
    tokens: tuple[int, int, int]

    @property
    def count(self) -> int:
        """Numbers in one image's latent."""
        channels, rows, columns = self.tokens
        return channels * rows * columns

    @property
    def time_shift(self) -> float:
        """Time shift that stage 2 derives from the number of elements of a latent."""
        return time_shift(self.tokens)

    def output(self, decoder_patch_size: int) -> tuple[int, int]:
        """The (height, width) in pixels of the images of a decoder of such patches."""
        return self.tokens[1] * decoder_patch_size, self.tokens[2] * decoder_patch_size


def shape_of(encoder: Encoder) -> EncoderShape:
    """The numbers of an encoder, loaded or on the meta device."""
    identity = encoder.identity_without_hash
    return EncoderShape(
        name=identity.name,
        kind=identity.kind,
        patch_size=encoder.patch_size,
        width=encoder.width,
        num_prefix_tokens=encoder.num_prefix_tokens,
        mean=identity.pixel_mean,
        std=identity.pixel_std,
        usual_size=encoder.usual_size,
    )


def in_words(encoder: Encoder, input_size: tuple[int, int], output_size: tuple[int, int]) -> str:
    """One line for a run's log."""
    shape = shape_of(encoder)
    latent = shape.latent(input_size)
    return (
        f"encoder {shape.name}: patch {shape.patch_size}, width {shape.width}, "
        f"{shape.num_prefix_tokens} prefix tokens; {'×'.join(map(str, input_size))} px → tokens "
        f"{'×'.join(map(str, latent.tokens))} → {'×'.join(map(str, output_size))} px; {latent.count:,} numbers, "
        f"time shift {latent.time_shift:.2f}"
    )


def shape_from_files(kind: str, name: str, *, local_only: bool = False) -> EncoderShape:
    """The numbers of a hub's model or a folder, from its configuration; weights need not be there.

    Args:
        local_only: do not ask a hub.

    Raises:
        WeightsError: If the configuration cannot be had.
    """
    with torch.device("meta"):
        backbone = adapter(kind).without_weights(_place(kind, name), name=name, local_only=local_only)
        return shape_of(_on_meta(kind, name, backbone))


def shape_from_architecture(kind: str, name: str, architecture: Mapping[str, Any]) -> EncoderShape:
    """The numbers that a written configuration leads to; mean and std are the kind's usual ones."""
    cls = adapter(kind)
    with torch.device("meta"):
        backbone = Backbone(cls.described(architecture), cls.default_mean, cls.default_std)
        return shape_of(_on_meta(kind, name, backbone))


def _place(kind: str, name: str) -> str:
    if Path(name).expanduser().exists():
        return str(Path(name).expanduser())
    on_hub = hub_repository(kind, name)
    if kind == "timm" and not name.startswith("hf-hub:"):
        return name  # timm knows the numbers of its own models
    return str(carried_folder(on_hub) or name) if on_hub else name


def _on_meta(kind: str, name: str, backbone: Backbone) -> Encoder:
    identity = EncoderIdentity(
        kind=kind,
        name=name,
        source=name,
        weights="hub",
        config={},
        pixel_mean=backbone.mean,
        pixel_std=backbone.std,
        embedded=False,
    )
    return adapter(kind)(backbone=backbone.network, identity=identity)
