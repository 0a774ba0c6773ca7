"""Images in npz files: the same pixels however they are stored, every conversion said, everything else refused."""

import logging

import numpy as np
import pytest

from unirae.core.errors import DataError
from unirae.data.npz import NpzSource

PIXELS = np.random.RandomState(0).randint(0, 256, (5, 6, 4, 3), dtype=np.uint8)


def write(folder, images=PIXELS, *, name="arr_0", compressed=False):
    file = folder / "images.npz"
    (np.savez_compressed if compressed else np.savez)(file, **{name: images})
    return file


def read(source):
    return np.stack([np.asarray(source[i].image) for i in range(len(source))])


@pytest.mark.parametrize("compressed", [False, True])
def test_8_bit_images_come_as_they_are(tmp_path, caplog, compressed):
    source = NpzSource(write(tmp_path, compressed=compressed))
    np.testing.assert_array_equal(read(source), PIXELS)
    assert isinstance(source._images, np.memmap) is not compressed
    assert {key: source.fingerprint[key] for key in ("source", "count", "conversions")} == {
        "source": "npz",
        "count": 5,
        "conversions": [],
    }
    assert len(source.fingerprint["sha256"]) == 64
    assert not caplog.records


def test_a_stored_array_may_lie_anywhere_in_the_file(tmp_path):
    file = tmp_path / "images.npz"
    np.savez(file, labels=np.arange(1001), arr_0=np.asfortranarray(PIXELS), other=np.ones(3))
    source = NpzSource(file)
    assert isinstance(source._images, np.memmap)
    np.testing.assert_array_equal(read(source), PIXELS)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 6, 1)])
def test_grey_images_become_colour_and_it_is_said(tmp_path, caplog, shape, compressed):
    grey = PIXELS[..., :1].transpose(0, 2, 1, 3)
    source = NpzSource(write(tmp_path, grey.reshape(shape), compressed=compressed))
    np.testing.assert_array_equal(read(source), grey.repeat(3, axis=-1))
    (said,) = source.fingerprint["conversions"]
    assert said == "grey images to RGB: the channel is repeated"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "images.npz: grey images to RGB" in caplog.text


def test_channels_first_are_moved(tmp_path, caplog):
    source = NpzSource(write(tmp_path, PIXELS.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_array_equal(read(source), PIXELS)
    assert source.fingerprint["conversions"] == ["channels moved from first to last place"]
    assert "channels moved" in caplog.text


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_from_0_to_1_are_rounded_to_8_bits(tmp_path, caplog, dtype):
    images = PIXELS / 255.0
    images[0, 0, 0] = [0.0, 1.0, 0.4999 / 255]
    images[0, 0, 1] = [0.6 / 255, 100.4 / 255, 254.6 / 255]
    source = NpzSource(write(tmp_path, images.astype(dtype)))
    found = read(source)
    assert found[0, 0, :2].tolist() == [[0, 255, 0], [1, 100, 255]]
    np.testing.assert_array_equal(found[1:], PIXELS[1:])
    assert source.fingerprint["conversions"] == ["floats in [0, 1] to 8 bits: rounded"]
    assert "floats in [0, 1] to 8 bits" in caplog.text


def test_grey_floats_with_channels_first_are_two_conversions(tmp_path):
    source = NpzSource(write(tmp_path, (PIXELS / 255.0).transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(read(source), PIXELS)
    assert len(source.fingerprint["conversions"]) == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "image 3 holds NaN or inf"),
        (-np.inf, "image 3 holds NaN or inf"),
        (1.5, r"image 3 holds floats from 0 to 1\.5; expected \[0, 1\].*\(x \+ 1\) / 2"),
        (-1.0, r"image 3 holds floats from -1 to 0; expected \[0, 1\]"),
    ],
)
def test_other_floats_are_refused_and_the_image_is_named(tmp_path, value, message):
    images = np.zeros((5, 6, 4, 3), np.float32)
    images[3, 2, 1, 0] = value
    source = NpzSource(write(tmp_path, images))
    assert not np.asarray(source[2].image).any()
    with pytest.raises(DataError, match=rf"images\.npz, {message}"):
        _ = source[3]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS.astype(np.int64), r"type int64; expected uint8 in \[0, 255\] or floats in \[0, 1\]"),
        (PIXELS > 100, "type bool"),
        (PIXELS[0, 0], r"shape \[4, 3\] are no images; expected \[N, H, W, 3\]"),
        (PIXELS[0], r"shape \[6, 4, 3\] seems to be one image in colour; .*for one \[1, H, W, 3\]"),
        (PIXELS[0].repeat(2, -1)[..., :4], r"shape \[6, 4, 4\] seems to be one image"),
        (PIXELS[..., :2], r"shape \[5, 6, 4, 2\] are no images"),
        (PIXELS[None], "are no images"),
        (PIXELS[:, :0], r"shape \[5, 0, 4, 3\] are no images"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, images, message):
    for compressed in (False, True):
        with pytest.raises(DataError, match=message):
            NpzSource(write(tmp_path, images, compressed=compressed))


@pytest.mark.parametrize("compressed", [False, True])
def test_no_images_are_no_error_of_the_file(tmp_path, compressed):
    assert len(NpzSource(write(tmp_path, PIXELS[:0], compressed=compressed))) == 0


@pytest.mark.parametrize("compressed", [False, True])
def test_python_objects_are_not_unpickled(tmp_path, compressed):
    file = write(tmp_path, np.array([PIXELS[0], None], dtype=object), compressed=compressed)
    with pytest.raises(DataError, match=r"images\.npz: arr_0 holds Python objects; expected numbers"):
        NpzSource(file)


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files(tmp_path, compressed):
    """Cut off; and with a part overwritten: the array's header, or compressed data anywhere."""
    file = write(tmp_path, compressed=compressed)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="is not an npz file, or was not copied completely"):
        NpzSource(file)
    for start in range(40, len(content) // 2, 20) if compressed else [40]:
        file.write_bytes(content[:start] + bytes(30) + content[start + 30 :])
        with pytest.raises(DataError, match=r"images\.npz: arr_0 cannot be read .*copy it again"):
            NpzSource(file)


def test_files_that_hold_something_else(tmp_path):
    with pytest.raises(DataError, match=r"no such file: .*none\.npz"):
        NpzSource(tmp_path / "none.npz")
    with pytest.raises(DataError, match="holds samples, but no images; expected arr_0"):
        NpzSource(write(tmp_path, name="samples"))
    (tmp_path / "text.npz").write_text("not a zip file")
    with pytest.raises(DataError, match="is not an npz file"):
        NpzSource(tmp_path / "text.npz")
