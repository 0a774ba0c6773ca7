"""Transforms of a PIL picture to uint8 [3, H, W]: the crops of both stages and of evaluation.

Each transform is ``transform(image, generator)``; all its random draws come from that generator, so that a
picture's augmentation is a function of (seed, epoch, index) and of nothing else. Sizes are pixels, one number
for a square or (height, width). A :class:`ViewTransform` has so few results that all of them can be had. ``fast`` is
how pictures are resized (:mod:`unirae.data.resize`).
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Generator, Tensor

from unirae.core.errors import ConfigError
from unirae.core.log import get_logger, log_once
from unirae.data.resize import bicubic

log = get_logger(__name__)

Size = int | Sequence[int]
_DERIVED = ("fast", "least_size")
_MARGIN = 2
"""Least ratio of the size that a picture is decoded at to the size that it is resized to."""
LONGEST = 16
"""The longest picture that is used whole: its length in crops."""


class Transform(Protocol):
    """A picture to a tensor of fixed size; ``generator`` is the only source of randomness."""

    fast: bool
    """True where torch resizes the picture, False where Pillow does."""
    least_size: tuple[int, int]
    """(width, height) below which a picture must not be decoded at a smaller size."""

    def __call__(self, image: Image.Image, generator: Generator) -> UInt8[Tensor, "3 H W"]:
        """RGB in, uint8 RGB in [0, 255] out."""
        ...


class ViewTransform(ABC):
    """A transform with a few results, its views: one of them is drawn, the rest follows from its number.

    What goes through all data once for all epochs, such as latent statistics and the latent cache, takes each view.
    """

    size: tuple[int, int]
    fast: bool
    least_size: tuple[int, int]
    view_weights: tuple[float, ...]
    """The probability of each view."""

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.view_weights)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the views depend on (not their probabilities), ready for JSON."""
        resizing = {"fast": True} if self.fast else {}
        return {"name": type(self).__name__, "size": list(self.size), **resizing, "views": self.views}

    @abstractmethod
    def view(self, generator: Generator) -> int:
        """Draw a view's number."""

    @abstractmethod
    def render(self, image: Image.Image, view: int) -> UInt8[Tensor, "3 H W"]:
        """Render the picture in view number ``view``."""

    def __call__(self, image: Image.Image, generator: Generator) -> UInt8[Tensor, "3 H W"]:
        """Draw a view and render it."""
        return self.render(image, self.view(generator))


def settings_of(transform: Any) -> dict[str, Any]:
    """The settings that a transform's results depend on beside its class, ready for JSON."""
    if isinstance(transform, ViewTransform):
        return transform.settings
    plain = (bool, int, float, str, tuple, list)
    own = {key: value for key, value in vars(transform).items() if isinstance(value, plain)}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in own.items() if key not in _DERIVED}


def height_width(size: Size, name: str = "size") -> tuple[int, int]:
    """A size as (height, width) in pixels."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or any(side < 1 for side in pair):
        raise ConfigError(f"{name}={size!r} must be a positive number of pixels or (height, width)")
    return pair[0], pair[1]


def least_size(resized: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
    """Least (width, height) of a picture before it is resized to ``scale`` times (height, width)."""
    height, width = (math.ceil(_MARGIN * scale * side) for side in resized)
    return width, height


def to_tensor(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """RGB picture to uint8 in [0, 255]."""
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def _randint(below: int, generator: Generator) -> int:
    return int(torch.randint(below, (), generator=generator))


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def not_too_long(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Cut the middle of a picture that is more than :data:`LONGEST` times as long as a crop of its short side.

    To cover (height, width) a picture of 1×3000 px would become one of 442 million.
    """
    height, width = size
    most_wide = max(1, LONGEST * image.height * width // height)
    most_high = max(1, LONGEST * image.width * height // width)
    if image.width <= most_wide and image.height <= most_high:
        return image
    log_once(
        log, logging.WARNING, f"of pictures more than {LONGEST} times as long as wide only the middle is used"
    )
    new_w, new_h = min(image.width, most_wide), min(image.height, most_high)
    left, top = (image.width - new_w) // 2, (image.height - new_h) // 2
    return image.crop((left, top, left + new_w, top + new_h))


class Stage1Transform:
    """Stage-1 training (RAE code): bicubic resize to cover ``resize``, random crop, no flip."""

    def __init__(self, *, size: Size, resize: Size | None = None, fast: bool = False):
        """``resize``: by default ⌊1.5·size⌋, so 384 for crops of 256; a square size means the short side."""
        self.size = height_width(size)
        default = [side * 3 // 2 for side in self.size]
        self.resize = height_width(default if resize is None else resize, "resize")
        if any(cover < crop for cover, crop in zip(self.resize, self.size, strict=True)):
            raise ConfigError(f"resize={self.resize} is smaller than the crop size={self.size}")
        self.fast, self.least_size = fast, least_size(self.resize)

    def __call__(self, image: Image.Image, generator: Generator) -> UInt8[Tensor, "3 H W"]:
        """Cut a random crop."""
        image = not_too_long(image, self.resize)
        image = bicubic(image, self._covering(image.size), fast=self.fast)
        height, width = self.size
        top = _randint(image.height - height + 1, generator)
        left = _randint(image.width - width + 1, generator)
        return to_tensor(image.crop((left, top, left + width, top + height)))

    def _covering(self, original: tuple[int, int]) -> tuple[int, int]:
        """The covering (width, height): one side as in ``resize``, the other larger, rounded as torchvision does."""
        (width, height), (cover_h, cover_w) = original, self.resize
        if cover_h * width >= cover_w * height:
            return cover_h * width // height, cover_h
        return cover_w, cover_w * height // width


class AdmCenterCrop(ViewTransform):
    """ADM's centre crop (evaluation, stage 2): halve by box filter while twice too large, bicubic, crop."""

    def __init__(self, *, size: Size, fast: bool = False):
        self.size = height_width(size)
        self.fast, self.least_size = fast, least_size(self.size)
        self.view_weights = (1.0,)

    def view(self, generator: Generator) -> int:
        """Draw a view: always 0, the only one."""
        return 0

    def render(self, image: Image.Image, view: int) -> UInt8[Tensor, "3 H W"]:
        """Render the crop."""
        return to_tensor(self.crop(image))

    def __call__(self, image: Image.Image, generator: Generator | None = None) -> UInt8[Tensor, "3 H W"]:
        """The same crop each time."""
        return self.render(image, 0)

    def crop(self, image: Image.Image) -> Image.Image:
        """The crop as a picture."""
        height, width = self.size
        image = not_too_long(image, self.size)
        while image.width >= 2 * width and image.height >= 2 * height:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        scale = max(width / image.width, height / image.height)
        covering = (round(image.width * scale), round(image.height * scale))
        image = bicubic(image, covering, fast=self.fast)
        top, left = (image.height - height) // 2, (image.width - width) // 2
        return image.crop((left, top, left + width, top + height))


class AdmCropFlip(ViewTransform):
    """Stage-2 training: ADM's centre crop, mirrored with probability ``flip_probability``."""

    def __init__(self, *, size: Size, flip_probability: float = 0.5, fast: bool = False):
        if not 0 <= flip_probability <= 1:
            raise ConfigError(f"flip_probability={flip_probability} must lie in [0, 1]")
        self._centre = AdmCenterCrop(size=size, fast=fast)
        self.fast, self.least_size = fast, self._centre.least_size
        self.size, self.flip_probability = self._centre.size, flip_probability
        self.view_weights = (1 - flip_probability, flip_probability) if flip_probability else (1.0,)

    def view(self, generator: Generator) -> int:
        """Draw a view: 0 for the centre crop, 1 for its mirror image."""
        return int(_uniform(0, 1, generator) < self.flip_probability)

    def render(self, image: Image.Image, view: int) -> UInt8[Tensor, "3 H W"]:
        """Render the centre crop or its mirror image."""
        tensor = self._centre.render(image, 0)
        return tensor.flip(-1) if view else tensor


class ScaleShift:
    """Crop for small pictures on white, such as emoji: a little larger or smaller, a little aside; never mirrored.

    The picture is fitted into ``size``, scaled by U(min_scale, max_scale) and moved by up to ``max_shift`` of
    the size along each axis. What this uncovers is white; letters and flags would not survive a mirror.
    """

    def __init__(
        self,
        *,
        size: Size,
        min_scale: float = 0.85,
        max_scale: float = 1.1,
        max_shift: float = 0.08,
        fast: bool = False,
    ):
        self.size = height_width(size)
        if not 0 < min_scale <= max_scale:
            raise ConfigError(f"min_scale={min_scale} must be positive and at most max_scale={max_scale}")
        self.min_scale, self.max_scale, self.max_shift = min_scale, max_scale, max_shift
        self.fast, self.least_size = fast, least_size(self.size, max_scale)

    def __call__(self, image: Image.Image, generator: Generator) -> UInt8[Tensor, "3 H W"]:
        """The picture, scaled and moved."""
        height, width = self.size
        fit = min(width / image.width, height / image.height)
        scale = fit * _uniform(self.min_scale, self.max_scale, generator)
        new_w, new_h = (max(1, round(side * scale)) for side in image.size)
        shift_x, shift_y = (_uniform(-self.max_shift, self.max_shift, generator) for _ in range(2))
        corner = (
            round((width - new_w) / 2 + shift_x * width),
            round((height - new_h) / 2 + shift_y * height),
        )
        canvas = Image.new("RGB", (width, height), "white")
        canvas.paste(bicubic(image, (new_w, new_h), fast=self.fast), corner)
        return to_tensor(canvas)
