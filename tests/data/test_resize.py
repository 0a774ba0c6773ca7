"""Fast resizing is Pillow's to about a level; exact resizing is Pillow's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from unirae.data.photos import FILES, read_photo
from unirae.data.resize import bicubic

sides = st.integers(1, 120)


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def difference(a: Image.Image, b: Image.Image) -> np.ndarray:
    assert a.size == b.size
    return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int))


@settings(max_examples=80, deadline=None)
@given(width=sides, height=sides, short=sides)
def test_torch_filters_as_pillow_does(width, height, short):
    """Noise, whose neighbours differ most, at any size of the same shape, as all transforms ask."""
    image = noise(width, height)
    scale = short / min(width, height)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    exact = bicubic(image, size, fast=False)
    assert difference(exact, image.resize(size, Image.Resampling.BICUBIC)).max() == 0
    assert difference(bicubic(image, size, fast=True), exact).max() <= 3


@pytest.mark.parametrize("name", FILES)
def test_of_a_photo_hardly_a_value_differs(name):
    photo = read_photo(name)
    for scale in (0.3, 0.5, 0.9, 1.3):
        size = (round(photo.width * scale), round(photo.height * scale))
        fast, exact = (bicubic(photo, size, fast=fast) for fast in (True, False))
        off = difference(fast, exact)
        assert off.max() <= 2
        assert (off > 0).mean() < 0.01


def test_an_unchanged_size_changes_nothing():
    assert difference(bicubic(noise(9, 7), (9, 7), fast=True), noise(9, 7)).max() == 0


def test_torch_moves_no_pixels_but_for_the_filter():
    """A copy by torch wakes all threads of a process that reads without workers; on busy cores that took 8 ms."""

    class Operations(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    names = []
    with Operations():
        bicubic(noise(90, 60), (60, 40), fast=True)
    assert "aten._upsample_bicubic2d_aa.default" in names
    assert not [name for name in names if "clone" in name or "copy" in name]
