"""From image files of every kind to correct 8-bit RGB."""

import io
import os
import warnings

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from unirae.core.errors import DataError

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_HIGH_DEPTH_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")


# ImageNet has such files; a filter for good, because catch_warnings is not safe among threads
warnings.filterwarnings("ignore", message="Corrupt EXIF data", category=UserWarning)


class BadImageError(DataError):
    """A file that is not an image, or a damaged one."""


def read_rgb(
    source: str | os.PathLike[str] | bytes | Image.Image, *, at_least: tuple[int, int] | None = None
) -> Image.Image:
    """Decode a file, its bytes or a PIL image of any mode to upright RGB.

    Palettes are looked up, CMYK is converted, 16-bit grey is scaled (Pillow would clip it), grey floats
    are read in [0, 1], or in [0, 255] where one is above 1 (others are refused), EXIF
    orientation is applied, and transparency is composited on white. Of an animation, the first frame.

    Args:
        at_least: (width, height). A colour JPEG may then come at 1/2, 1/4 or 1/8 of its size, where that is whole
            and no smaller than this: cheaper, and not the same as decoding all of it and making that smaller. All else
            comes at its size.

    Raises:
        BadImageError: it could not be decoded.
    """
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if at_least is not None:
                _reduce(image, at_least)
            return _to_rgb(image)
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged input
        name = f"{os.fspath(source)}: " if isinstance(source, str | os.PathLike) else ""
        unknown = isinstance(error, UnidentifiedImageError)  # whose message is the address of a buffer
        reason = "not an image" if unknown else f"{type(error).__name__}: {error}"
        raise BadImageError(name + reason) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()  # before the EXIF is read: damage to the pixels shows here
    image = _upright(image)
    if image.mode in _HIGH_DEPTH_MODES:
        return _from_array(np.asarray(image).astype(np.float64) / 257.0)  # 65535 / 255
    if image.mode == "F":
        return _from_array(_checked_floats(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # a copy costs as much as decoding


def _reduce(image: Image.Image, at_least: tuple[int, int]) -> None:
    """Let libjpeg scale in the frequency domain; before the pixels are loaded.

    Only to whole sizes: others are rounded up, which would shift the picture by as much as a pixel.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode != "RGB":
        return
    width, height = at_least
    if _orientation(image) in _SIDEWAYS:
        width, height = height, width
    for scale in (8, 4, 2):
        size = (image.width // scale, image.height // scale)
        if image.size == (size[0] * scale, size[1] * scale) and size[0] >= width and size[1] >= height:
            image.draft(None, size)
            return


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a damaged EXIF block must not cost the picture."""
    try:
        return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
    except Exception:  # as many types as there are ways to damage it
        return image


def _orientation(image: Image.Image) -> int:
    """What the EXIF block says; 1, upright, where it is absent or damaged."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as many types as there are ways to damage it
        return 1


def _checked_floats(values: np.ndarray) -> np.ndarray:
    """Grey floats in [0, 1] or [0, 255] to [0, 255]; others would be guesses."""
    if not np.isfinite(values).all():
        raise ValueError("the pixels hold NaN or inf")
    low, high = float(values.min()), float(values.max())
    if low < 0.0 or high > 255.0:
        raise ValueError(f"the pixels are floats from {low:.4g} to {high:.4g}; expected [0, 1] or [0, 255]")
    return values * 255.0 if high <= 1.0 else values


def _from_array(grey: np.ndarray) -> Image.Image:
    """A float array in [0, 255] to RGB."""
    return Image.fromarray(grey.clip(0, 255).round().astype(np.uint8)).convert("RGB")
