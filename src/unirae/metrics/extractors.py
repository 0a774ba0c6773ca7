"""Feature extractors: networks from 8-bit images to vectors, for Fréchet distances and their relatives.

What an extractor loaded is hashed and travels with every score (``identity``); random weights are used only
when asked for and then stand in the extractor's name. Images pass in chunks of a fixed size, in full float32
and outside autocast, so features depend neither on the caller's batch size nor on the training precision.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from unirae.core.exact import FEATURE_CHUNK, NETWORK_CHUNK, exact_float32, in_chunks, joined
from unirae.core.images import to_float
from unirae.core.io import state_sha256

POOLED = "pooled"
"""The output that every extractor has: one vector for the whole image."""


RESERVED_NAMES = ("inception", "random_inception")
"""Names of FID's own network: scores in its features have plain names."""


class FeatureExtractor(ABC):
    """A named function from images to one or several vectors each.

    Attributes:
        name: short, for the names of scores: "inception", "mae", …; it says so if the weights are random.
        widths: numbers per image of each output; ``pooled`` is among them.
        identity: JSON-able: which network, which weights, their hash.
        chunk: images that the network sees at once.
    """

    name: str
    widths: Mapping[str, int]
    identity: dict[str, Any]
    chunk: int = NETWORK_CHUNK

    @property
    def width(self) -> int:
        """Numbers per image of the pooled output."""
        return self.widths[POOLED]

    @abstractmethod
    def forward(self, images: UInt8[Tensor, "b 3 H W"]) -> dict[str, Float[Tensor, "b d"]]:
        """Every output of one chunk, in the order of ``widths``."""

    def features(self, images: UInt8[Tensor, "b 3 H W"]) -> dict[str, Float[Tensor, "b d"]]:
        """Every output, in float32, the same for every batch size."""
        with exact_float32(images.device):
            rows = in_chunks(lambda chunk: joined(list(self.forward(chunk).values()), 1), images, self.chunk)
        return dict(zip(self.widths, rows.split(list(self.widths.values()), 1), strict=True))

    def __call__(self, images: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        """Compute the pooled output alone."""
        return self.features(images)[POOLED]


class EncoderFunction(Protocol):
    """Function that :class:`EncoderExtractor` needs of an encoder: images in [0, 1] to a grid of tokens."""

    @property
    def width(self) -> int:
        """Width of a token."""
        ...

    def __call__(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Encode images to tokens."""
        ...


class EncoderExtractor(FeatureExtractor):
    """Mean-pooled tokens of an encoder; images are resized to ``input_size`` as the RAE does."""

    def __init__(
        self,
        *,
        encoder: EncoderFunction,
        name: str,
        identity: dict[str, Any],
        input_size: tuple[int, int] | None = None,
        chunk: int = NETWORK_CHUNK,
    ) -> None:
        self.name = name
        self.widths = {POOLED: encoder.width}
        size = None if input_size is None else list(input_size)
        self.identity = {**identity, "pooling": "mean over tokens", "input_size": size}
        self.chunk = chunk
        self._encoder = encoder
        self._input_size = input_size

    def forward(self, images: UInt8[Tensor, "b 3 H W"]) -> dict[str, Float[Tensor, "b d"]]:
        """One mean token per image."""
        pixels = to_float(images)
        if self._input_size is not None and pixels.shape[-2:] != self._input_size:
            pixels = nn.functional.interpolate(pixels, self._input_size, mode="bicubic", align_corners=False)
        return {POOLED: self._encoder(pixels).mean((-2, -1))}


class ModuleExtractor(FeatureExtractor):
    """A user's network: 8-bit images [b, 3, H, W] to vectors [b, d]; it resizes and normalises by itself.

    Args:
        module: in eval mode; a module's weights are hashed.
        name: stands in the names of scores: ``fd_<name>``.
        width: numbers per image.
        identity: what else identifies it, such as the file it came from.
    """

    def __init__(
        self,
        *,
        module: Callable[[Tensor], Tensor],
        name: str,
        width: int,
        identity: dict[str, Any] | None = None,
        chunk: int = FEATURE_CHUNK,
    ) -> None:
        if name in RESERVED_NAMES:
            raise ValueError(f"the name {name!r} belongs to FID's own network; choose another")
        self.name, self.widths, self.chunk = name, {POOLED: width}, chunk
        weights = state_sha256(module.state_dict()) if isinstance(module, nn.Module) else None
        self.identity = {**(identity or {}), "sha256": weights, "chunk": chunk}
        self._module = module

    def forward(self, images: UInt8[Tensor, "b 3 H W"]) -> dict[str, Float[Tensor, "b d"]]:
        """Compute the module's vectors.

        Raises:
            ValueError: If the features have another shape than was said.
        """
        rows = self._module(images)
        if rows.shape != (len(images), self.width):
            raise ValueError(
                f"the extractor {self.name} gave {tuple(rows.shape)} for {len(images)} images; "
                f"expected ({len(images)}, {self.width})"
            )
        return {POOLED: rows.float()}
