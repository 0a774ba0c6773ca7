"""Decoding of image files of every kind to correct 8-bit RGB."""

import io
import os
import warnings

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from unirae.core.errors import DataError
from unirae.core.names import printable
from unirae.data.file_kinds import missing_reader, register_readers

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_HIGH_DEPTH_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_16_BIT_FORMATS = ("PNG", "PPM")
"""Whose greys fill 16 bits where Pillow calls them 32-bit integers, as it does in PGM files and did in PNG."""
_PHOTOMETRIC, _SAMPLE_FORMAT, _BITS = 262, 339, 258
_SIGNED = 2
_START = 16
"""Bytes that tell a format."""


# Filters for good, because catch_warnings is not safe among threads. ImageNet has files of the first kind; the second
# are photographs of 89 million pixels and more. From twice as many on Pillow refuses, and such a file is a bad image.
warnings.filterwarnings("ignore", message="Corrupt EXIF data", category=UserWarning)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadImageError(DataError):
    """A file that is not an image, or a damaged one."""


def read_rgb(
    source: str | os.PathLike[str] | bytes | Image.Image, *, at_least: tuple[int, int] | None = None
) -> Image.Image:
    """Decode a file, its bytes or a PIL image of any mode to upright RGB.

    Palettes are looked up, CMYK is converted, and 16-bit grey is scaled (Pillow would clip it). Grey integers of 32
    bits, or signed ones, are read as 8 bits where none is above 255, else as 16 bits; grey floats in [0, 1], or in
    [0, 255] where one is above 1. Others are refused. EXIF orientation is applied, and transparency is composited on
    white. Of an animation, the first frame.

    Args:
        at_least: (width, height). A colour JPEG may then come at 1/2, 1/4 or 1/8 of its size, where that is whole
            and no smaller than this: cheaper, and not the same as decoding all of it and making that smaller. All else
            comes at its size.

    Raises:
        BadImageError: If the picture cannot be decoded.
    """
    register_readers()
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if at_least is not None:
                _reduce(image, at_least)
            return _to_rgb(image)
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged input
        name = f"{printable(str(source))}: " if isinstance(source, str | os.PathLike) else ""
        raise BadImageError(name + _reason(error, source)) from error


def _reason(error: Exception, source: str | os.PathLike[str] | bytes | Image.Image) -> str:
    """Why a picture could not be decoded."""
    if isinstance(error, Image.DecompressionBombError):
        return f"too large, make it smaller ({printable(str(error)).split(',')[0]})"
    if not isinstance(error, UnidentifiedImageError):  # whose message is the address of a buffer
        said = getattr(error, "strerror", None) or str(error)  # without the file's name, which stands before
        if "truncated" in said.lower():
            return "the file is truncated, its end is missing"
        return f"{type(error).__name__}: {' '.join(printable(said).split())}"
    start = b""
    if isinstance(source, bytes):
        start = source[:_START]
    elif isinstance(source, str | os.PathLike):
        try:
            with open(source, "rb") as file:
                start = file.read(_START)
        except OSError as gone:  # since it was opened first
            return f"{type(gone).__name__}: {gone.strerror}"
    reader = missing_reader(start)
    return f"a {reader.kind} picture, which needs: pip install {reader.package}" if reader else "not an image"


def _to_rgb(opened: Image.Image) -> Image.Image:
    opened.load()  # before the EXIF is read: damage to the pixels shows here
    image = _upright(opened)
    if image.mode in _HIGH_DEPTH_MODES or image.mode == "F":
        return _from_array(_grey_levels(np.asarray(image), opened))
    if image.mode == "L" and _tiff_tag(opened, _SAMPLE_FORMAT) == _SIGNED and np.asarray(image).max() > 127:
        raise ValueError("the pixels are signed and some are negative; expected 0 to 255")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # a copy costs as much as decoding


def _grey_levels(values: np.ndarray, opened: Image.Image) -> np.ndarray:
    """Greys of more than 8 bits as floats in [0, 255], white as 255."""
    if opened.mode == "F":
        levels = _checked_floats(values)
    else:
        levels = values.astype(np.float64) / (_white(values, opened) / 255.0)
    white_is_zero = _tiff_tag(opened, _PHOTOMETRIC) == 0  # which Pillow heeds up to 8 bits only
    return 255.0 - levels if white_is_zero else levels


def _white(values: np.ndarray, opened: Image.Image) -> int:
    """The integer that means white."""
    if opened.mode != "I":
        return 4095 if _tiff_tag(opened, _BITS) == 12 else 65535
    if opened.format in _16_BIT_FORMATS:
        return 65535
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"the pixels are integers from {low} to {high}; expected 0 to 255 or 0 to 65535")
    return 255 if high <= 255 else 65535


def _tiff_tag(opened: Image.Image, tag: int) -> int | None:
    """A number that a TIFF file says of its pixels; None for another file."""
    if not isinstance(opened, TiffImagePlugin.TiffImageFile):
        return None
    value = opened.tag_v2.get(tag)
    return value[0] if isinstance(value, tuple) else value


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
    """The orientation of the EXIF block; 1, upright, where it is absent or damaged."""
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
