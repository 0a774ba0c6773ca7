"""Every kind of image file comes out as the RGB that a person would see."""

import io

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from unirae.data.decode import BadImageError, read_rgb
from unirae.data.photos import read_photo

RED = (200, 30, 60)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixel(data, xy=(0, 0)) -> tuple[int, ...]:
    image = read_rgb(data)
    assert image.mode == "RGB"
    return image.getpixel(xy)


def close(a, b, tolerance=6) -> bool:
    return np.abs(np.subtract(a, b)).max() <= tolerance


def test_palette_and_its_transparency():
    palette = Image.new("RGB", (4, 4), RED).quantize(4)
    assert pixel(encoded(palette, "PNG")) == RED
    assert pixel(encoded(palette, "GIF")) == RED
    assert pixel(encoded(palette, "PNG", transparency=palette.getpixel((0, 0)))) == (255, 255, 255)


def test_grey_and_black_and_white():
    assert pixel(encoded(Image.new("L", (2, 2), 77), "PNG")) == (77, 77, 77)
    assert pixel(encoded(Image.new("1", (2, 2), 1), "PNG")) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257 * 100, 100), (65535, 255)])
def test_16_bit_grey_is_scaled_and_not_clipped(kind, value, expected):
    image = Image.fromarray(np.full((2, 2), value, np.uint16))
    assert pixel(encoded(image, kind)) == (expected,) * 3


@pytest.mark.parametrize(("value", "expected"), [(0.5, 128), (200.0, 200)])
def test_float_grey(value, expected):
    assert pixel(encoded(Image.fromarray(np.full((2, 2), value, np.float32)), "TIFF")) == (expected,) * 3


def test_cmyk_jpeg():
    assert close(pixel(encoded(Image.new("RGB", (8, 8), RED).convert("CMYK"), "JPEG", quality=95)), RED)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV"])
def test_other_colour_spaces(mode):
    assert close(pixel(Image.new("RGB", (2, 2), RED).convert(mode)), RED)


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (200, 30, 60)), ("LA", (40,))])
@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_alpha_is_composited_on_white(mode, colour, alpha):
    rgb = np.array(colour * (3 // len(colour)))
    expected = rgb * alpha / 255 + 255 * (1 - alpha / 255)
    assert close(pixel(encoded(Image.new(mode, (2, 2), (*colour, alpha)), "PNG")), expected, 1)


def test_a_transparent_colour_of_an_rgb_png():
    assert pixel(encoded(Image.new("RGB", (2, 2), RED), "PNG", transparency=RED)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    upright = Image.new("RGB", (24, 16), "white")
    upright.paste(RED, (0, 0, 8, 8))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that stores it under each orientation
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = read_rgb(encoded(stored, "JPEG", quality=95, exif=exif))
    assert shown.size == (24, 16)
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(upright)).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # pytest puts its own filters before the package's
def test_damaged_exif_costs_nothing():
    data = encoded(
        Image.new("RGB", (8, 8), RED), "JPEG", quality=95, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff junk"
    )
    assert close(pixel(data), RED)


def test_paths_and_open_images(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (3, 2), RED), "PNG"))
    assert read_rgb(tmp_path / "a.png").size == (3, 2)
    assert pixel(Image.new("RGBA", (2, 2), (*RED, 0))) == (255, 255, 255)


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, "blue")]
    assert pixel(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == RED


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_a_picture_outlives_its_file(tmp_path, kind):
    """It is no copy of what Pillow opened, so nothing of it may be read later."""
    file = tmp_path / "a"
    file.write_bytes(encoded(Image.new("RGB", (8, 6), RED), kind))
    shown = read_rgb(file)
    file.unlink()
    assert close(shown.resize((4, 3)).getpixel((1, 1)), RED)
    assert close(shown.crop((2, 2, 4, 4)).getpixel((0, 0)), RED)


@pytest.mark.parametrize(
    ("size", "at_least", "shown"),
    [
        ((640, 480), (640, 480), (640, 480)),
        ((640, 480), (321, 240), (640, 480)),
        ((640, 480), (320, 240), (320, 240)),
        ((641, 480), (320, 240), (641, 480)),
        ((644, 484), (20, 20), (161, 121)),
        ((640, 480), (20, 20), (80, 60)),
        ((640, 480), (1000, 1000), (640, 480)),
    ],
)
def test_a_large_jpeg_may_come_smaller(size, at_least, shown):
    data = encoded(read_photo("rocket").resize(size), "JPEG", quality=95)
    assert read_rgb(data).size == size
    found = read_rgb(data, at_least=at_least)
    assert found.size == shown
    if shown == size:
        assert np.array_equal(found, read_rgb(data))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_at_least_means_the_upright_picture(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.new("RGB", (800, 200), RED), "JPEG", exif=exif)
    upright = (200, 800) if orientation in (6, 8) else (800, 200)
    assert read_rgb(data, at_least=upright).size == upright
    half = (upright[0] // 2, upright[1] // 2)
    assert read_rgb(data, at_least=half).size == half


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("RGBA", "WEBP")]
)
def test_only_colour_jpegs_come_smaller(mode, kind):
    data = encoded(read_photo("rocket").convert(mode), kind)
    assert np.array_equal(read_rgb(data, at_least=(8, 8)), read_rgb(data))


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("at_least", [None, (8, 8)])
def test_truncated_files_are_bad_images(kind, keep, at_least):
    data = encoded(NOISE, kind)
    with pytest.raises(BadImageError):
        read_rgb(data[: int(len(data) * keep)], at_least=at_least)


def test_a_truncated_file_is_called_so(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(encoded(NOISE, "JPEG")[:-200])
    with pytest.raises(BadImageError, match=r"cut\.jpg: the file is truncated, its end is missing$"):
        read_rgb(tmp_path / "cut.jpg")


def test_the_error_names_the_file(tmp_path):
    (tmp_path / "broken.jpg").write_text("hello")
    with pytest.raises(BadImageError, match=r"broken\.jpg: not an image"):
        read_rgb(tmp_path / "broken.jpg")
    with pytest.raises(BadImageError, match=r"gone\.jpg"):
        read_rgb(tmp_path / "gone.jpg")


def test_a_file_that_vanishes_while_it_is_read_is_a_bad_image(tmp_path, monkeypatch):
    file = tmp_path / "x.png"
    file.write_bytes(b"no image")

    def vanish(source):
        file.unlink()
        raise UnidentifiedImageError

    monkeypatch.setattr("unirae.data.decode.Image.open", vanish)
    with pytest.raises(BadImageError, match=r"x\.png: FileNotFoundError: No such file"):
        read_rgb(file)
