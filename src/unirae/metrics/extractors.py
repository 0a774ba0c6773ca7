"""Feature extractors: networks from 8-bit images to vectors, for Fréchet distances and their relatives.

What an extractor loaded is hashed and travels with every score (``identity``); random weights are used only
when asked for and then stand in the extractor's name. Images pass in chunks of a fixed size, in full float32
and outside autocast, so features depend neither on the caller's batch size nor on the training precision.
"""

from typing import Any, Protocol

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from unirae.core.exact import NETWORK_CHUNK, exact_float32, in_chunks
from unirae.core.images import to_float


class FeatureExtractor(Protocol):
    """A named function from images to vectors."""

    @property
    def name(self) -> str:
        """Short name for the names of scores: "inception", "mae", …; it says so if the weights are random."""
        ...

    @property
    def width(self) -> int:
        """Numbers per image."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-able: which network, which weights, their hash."""
        ...

    def __call__(self, images: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        """8-bit images to features, the same for every batch size."""
        ...


class EncoderFunction(Protocol):
    """What :class:`EncoderExtractor` needs of an encoder: images in [0, 1] to a grid of tokens."""

    @property
    def width(self) -> int:
        """Token width."""
        ...

    def __call__(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Images to tokens."""
        ...


class EncoderExtractor:
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
        self.width = encoder.width
        self.identity = {**identity, "pooling": "mean over tokens", "input_size": input_size}
        self._encoder = encoder
        self._input_size = input_size
        self._chunk = chunk

    def __call__(self, images: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        """8-bit images to one token mean per image."""
        with exact_float32(images.device):
            return in_chunks(self._pooled, images, self._chunk)

    def _pooled(self, images: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        pixels = to_float(images)
        if self._input_size is not None and pixels.shape[-2:] != self._input_size:
            pixels = nn.functional.interpolate(pixels, self._input_size, mode="bicubic", align_corners=False)
        return self._encoder(pixels).mean((-2, -1))
