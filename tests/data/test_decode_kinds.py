"""Unusual kinds of pictures are read by their values or refused, never guessed: depths, signs, sizes, packages."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError
from skimage.color import rgb2lab

from unirae.data import file_kinds
from unirae.data.decode import BadImageError, read_rgb

WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def tiff(values: bytes, *, bits: int, sample: int = UNSIGNED, photometric: int = BLACK_IS_ZERO) -> bytes:
    """A grey TIFF of 2×2 pixels, as Pillow itself does not write them."""
    tags = [(256, 2), (257, 2), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1), (278, 2)]
    tags += [(279, len(values)), (339, sample)]
    start = 8 + 2 + 12 * len(tags) + 4
    fields = b"".join(struct.pack("<HHIHH", tag, 3, 1, start if tag == 273 else v, 0) for tag, v in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + fields + bytes(4) + values


def levels(data: bytes) -> list[int]:
    image = np.asarray(read_rgb(data))
    assert image.shape == (2, 2, 3)
    assert (image == image[..., :1]).all()
    return image[..., 0].ravel().tolist()


@pytest.mark.parametrize(
    ("values", "kind", "options", "expected"),
    [
        ([0, 1, 128, 255], "<i4", {"bits": 32, "sample": SIGNED}, [0, 1, 128, 255]),
        ([0, 1, 128, 255], "<u4", {"bits": 32}, [0, 1, 128, 255]),
        ([0, 257, 128 * 257, 65535], "<i4", {"bits": 32, "sample": SIGNED}, [0, 1, 128, 255]),
        ([0, 257, 257 * 100, 32767], "<i2", {"bits": 16, "sample": SIGNED}, [0, 1, 100, 127]),
        ([0, 257, 128 * 257, 65535], "<u2", {"bits": 16}, [0, 1, 128, 255]),
        ([0, 257, 128 * 257, 65535], "<u2", {"bits": 16, "photometric": WHITE_IS_ZERO}, [255, 254, 127, 0]),
        ([0, 0.25, 0.5, 1], "<f4", {"bits": 32, "sample": FLOAT, "photometric": WHITE_IS_ZERO}, [255, 191, 128, 0]),
        ([0, 1, 128, 255], "u1", {"bits": 8, "photometric": WHITE_IS_ZERO}, [255, 254, 127, 0]),
        ([0, 1, 100, 127], "i1", {"bits": 8, "sample": SIGNED}, [0, 1, 100, 127]),
    ],
)  # fmt: skip
def test_grey_of_every_depth(values, kind, options, expected):
    assert levels(tiff(np.array(values, kind).tobytes(), **options)) == expected


def test_twelve_bits():
    packed = bytes([0xFF, 0xF8, 0x00, 0x00, 0x00, 0x00])  # rows of 4095, 2048 and 0, 0
    assert levels(tiff(packed, bits=12)) == [255, 128, 0, 0]


@pytest.mark.parametrize(
    ("values", "kind", "options", "message"),
    [
        (
            [-5, 0, 5, 300],
            "<i2",
            {"bits": 16, "sample": SIGNED},
            "integers from -5 to 300; expected 0 to 255",
        ),
        ([0, 0, 5, 65536], "<i4", {"bits": 32, "sample": SIGNED}, "integers from 0 to 65536"),
        ([0, 0, 5, 2**32 - 1], "<u4", {"bits": 32}, "expected 0 to 255 or 0 to 65535"),
        ([-5, 0, 5, 9], "i1", {"bits": 8, "sample": SIGNED}, "some are negative"),
    ],
)
def test_values_that_would_be_guesses(values, kind, options, message):
    with pytest.raises(BadImageError, match=message):
        read_rgb(tiff(np.array(values, kind).tobytes(), **options))


@pytest.mark.parametrize(("maximum", "expected"), [(1023, [255, 128]), (65535, [4, 2])])
def test_pgm_of_more_than_8_bits(maximum, expected):
    """Its own maximum is white; dark ones are not taken for 8 bits."""
    content = b"P5 2 1 %d\n" % maximum + np.array([1023, 512], ">u2").tobytes()
    assert np.asarray(read_rgb(content))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("colour", [(200, 30, 60), (128, 128, 128), (10, 200, 90)])
def test_lab(colour):
    lightness, a, b = rgb2lab(np.array([[colour]]) / 255)[0, 0]
    image = Image.new("LAB", (2, 2), (round(lightness * 2.55), round(a) + 128, round(b) + 128))
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    assert np.abs(np.subtract(read_rgb(buffer.getvalue()).getpixel((0, 0)), colour)).max() <= 12


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest puts its filters first
def test_large_pictures_are_read_and_giants_refused(monkeypatch):
    buffer = io.BytesIO()
    Image.new("L", (40, 40), 9).save(buffer, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_rgb(buffer.getvalue()).size == (40, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(
        BadImageError, match=r"too large, make it smaller \(Image size \(1600 pixels\) exceeds"
    ):
        read_rgb(buffer.getvalue())


def test_a_link_that_leads_nowhere(tmp_path):
    (tmp_path / "gone.png").symlink_to("/nowhere/gone.png")
    with pytest.raises(BadImageError, match=r"gone\.png: FileNotFoundError"):
        read_rgb(tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("content", "package"),
    [(b"\0\0\0\x18ftypheic" + bytes(100), "pillow-heif"), (b"\xff\x0a" + bytes(100), "pillow-jxl-plugin")],
)
def test_a_format_that_a_package_would_read_is_named(content, package, monkeypatch, tmp_path):
    """Also under another format's name, as telephones' pictures often have."""

    def unknown(*_):  # an installed package cannot be taken out of Pillow again
        raise UnidentifiedImageError("?")

    monkeypatch.setattr(file_kinds, "installed_readers", list)
    monkeypatch.setattr(Image, "open", unknown)
    (tmp_path / "IMG.jpg").write_bytes(content)
    for source in (content, tmp_path / "IMG.jpg"):
        with pytest.raises(BadImageError, match=f"which needs: pip install {package}"):
            read_rgb(source)


def test_heic_is_read_where_its_package_is_installed(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    heif = pillow_heif.from_pillow(Image.new("RGB", (32, 24), (200, 30, 60)))
    heif.save(tmp_path / "a.heic", quality=95)
    image = read_rgb(tmp_path / "a.heic")
    assert image.size == (32, 24)
    assert np.abs(np.subtract(image.getpixel((9, 9)), (200, 30, 60))).max() <= 8
