"""Images in an npz file as ADM and its successors exchange them: ``arr_0``, [N, H, W, 3]."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unirae.core.errors import DataError
from unirae.core.io import file_sha256
from unirae.core.log import get_logger
from unirae.data.source import Sample, Source

log = get_logger(__name__)

_KEY = "arr_0"


class NpzSource(Source):
    """All images of a file. An array that was stored uncompressed is read from disk image by image.

    Conversions, each said in the log and in the fingerprint: floats in [0, 1] to 8 bits (rounded), grey to
    RGB, channels from first to last place. Anything else is refused.
    """

    name = "npz"
    class_names: tuple[str, ...] = ()

    def __init__(self, path: str | Path):
        """Open ``path``.

        Raises:
            DataError: If the file is missing, no npz, or holds no array of images.
        """
        self._path = Path(path)
        self._images, layout = _in_our_layout(_open(self._path), self._path)
        conversions = [layout] if layout else []
        if np.issubdtype(self._images.dtype, np.floating):
            conversions.append("floats in [0, 1] to 8 bits: rounded")
        elif self._images.dtype != np.uint8:
            raise DataError(
                f"{self._path}: {_KEY} is of type {self._images.dtype}; expected uint8 in [0, 255] or floats in [0, 1]"
            )
        for conversion in conversions:
            log.warning("%s: %s", self._path, conversion)
        self.fingerprint: dict[str, Any] = {
            "source": self.name,
            "path": str(self._path),
            "sha256": file_sha256(self._path),
            "count": len(self._images),
            "conversions": conversions,
        }

    def __len__(self) -> int:
        """Number of images."""
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """One image in 8 bits.

        Raises:
            DataError: If the image holds values that are not finite, or floats outside [0, 1].
        """
        pixels = np.asarray(self._images[index])
        if pixels.dtype != np.uint8:
            pixels = self._to_8_bits(pixels, index)
        if pixels.shape[-1] == 1:
            pixels = pixels.repeat(3, axis=-1)
        return Sample(Image.fromarray(pixels), 0)

    def _to_8_bits(self, pixels: np.ndarray, index: int) -> np.ndarray:
        where = f"{self._path}, image {index}"
        if not np.isfinite(pixels).all():
            raise DataError(f"{where} holds NaN or inf; mend what wrote it")
        low, high = float(pixels.min()), float(pixels.max())
        if low < 0 or high > 1:
            raise DataError(
                f"{where} holds floats from {low:.4g} to {high:.4g}; expected [0, 1]. Images in [-1, 1] are "
                "(x + 1) / 2 there, and those in [0, 255] are to be stored as uint8"
            )
        return (pixels * 255.0).round().astype(np.uint8)


def _open(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an npz file, or was not copied completely")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if f"{_KEY}.npy" not in names:
                held = ", ".join(name.removesuffix(".npy") for name in names) or "nothing"
                raise DataError(f"{path} holds {held}, but no images; expected {_KEY}, uint8 [N, H, W, 3]")
            member = archive.getinfo(f"{_KEY}.npy")
            header = _header(archive, member)
            if header.dtype.hasobject:
                raise DataError(f"{path}: {_KEY} holds Python objects; expected numbers, uint8 [N, H, W, 3]")
            if member.compress_type == zipfile.ZIP_STORED:
                return _mapped(path, member, header)
        with np.load(path, allow_pickle=False) as content:
            return content[_KEY]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: {_KEY} cannot be read ({error}); copy it again") from None


def stored_shape(path: str | Path) -> tuple[int, ...]:
    """The shape of a file's array of images; the array is not read."""
    with zipfile.ZipFile(path) as archive:
        return _header(archive, archive.getinfo(f"{_KEY}.npy")).shape


@dataclass(frozen=True, kw_only=True)
class _Header:
    """The header of an npy file; ``length`` in bytes."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Header:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)  # pyright: ignore[reportArgumentType]
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
        shape, fortran, dtype = read(stream)  # pyright: ignore[reportArgumentType]
        return _Header(shape=shape, fortran=fortran, dtype=dtype, length=stream.tell())


def _mapped(path: Path, member: zipfile.ZipInfo, header: _Header) -> np.ndarray:
    """The array where it lies in the file, not read into memory."""
    with open(path, "rb") as file:  # the local header's two variable fields lie between it and the data
        file.seek(member.header_offset + 26)
        name_length, extra_length = np.frombuffer(file.read(4), "<u2")
    offset = member.header_offset + 30 + int(name_length) + int(extra_length) + header.length
    order = "F" if header.fortran else "C"
    return np.memmap(path, dtype=header.dtype, mode="r", offset=offset, shape=header.shape, order=order)


def _in_our_layout(images: np.ndarray, path: Path) -> tuple[np.ndarray, str | None]:
    """The array as [N, H, W, 3 or 1], and what was done to get there."""
    shape = images.shape
    if 0 in shape[1:]:
        raise DataError(f"{path}: {_KEY} of shape {list(shape)} are no images; expected [N, H, W, 3]")
    if images.ndim == 4 and shape[3] == 3:
        return images, None
    if images.ndim == 4 and shape[3] == 1:
        return images, "grey images to RGB: the channel is repeated"
    if images.ndim == 4 and shape[1] == 3:
        return images.transpose(0, 2, 3, 1), "channels moved from first to last place"
    if images.ndim == 3 and shape[2] in (3, 4):
        raise DataError(
            f"{path}: {_KEY} of shape {list(shape)} seems to be one image in colour; expected [N, H, W, 3], for one "
            "[1, H, W, 3], and for grey images as narrow as that [N, H, W, 1]"
        )
    if images.ndim == 3:
        return images[..., None], "grey images to RGB: the channel is repeated"
    raise DataError(f"{path}: {_KEY} of shape {list(shape)} are no images; expected [N, H, W, 3]")
