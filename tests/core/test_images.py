import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unirae.core.images import image_grid, quantise, save_png, to_float, to_signed, to_uint8

EVERY_VALUE = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)


def test_uint8_survives_the_way_there_and_back():
    assert torch.equal(to_uint8(to_float(EVERY_VALUE)), EVERY_VALUE)
    assert torch.equal(to_uint8(quantise(to_float(EVERY_VALUE))), EVERY_VALUE)
    assert torch.equal(to_uint8((to_signed(to_float(EVERY_VALUE)) + 1) / 2), EVERY_VALUE)


@given(st.floats(-3, 3, width=32))
def test_uint8_clamps_then_rounds_to_the_nearest(value):
    clamped = min(max(value, 0.0), 1.0)
    found = to_uint8(torch.full((3, 1, 1), value))[0].item()
    assert abs(found - clamped * 255) <= 0.5 + 1e-4


def test_quantised_images_are_what_a_file_would_hold():
    images = torch.rand(2, 3, 8, 8) * 1.6 - 0.3
    assert torch.equal(quantise(images), to_float(to_uint8(images)))
    assert torch.equal(quantise(quantise(images)), quantise(images))
    assert quantise(images.double()).dtype == torch.float64


def test_a_grid_holds_each_image_once_on_white():
    images = torch.stack([torch.full((3, 2, 4), value, dtype=torch.uint8) for value in (10, 20, 30)])
    grid = image_grid(images, columns=2, gap_px=1)
    assert grid.shape == (3, 7, 11)
    for value, rows, columns in ((10, (1, 3), (1, 5)), (20, (1, 3), (6, 10)), (30, (4, 6), (1, 5))):
        assert (grid[:, slice(*rows), slice(*columns)] == value).all()
        assert (grid == value).sum() == images[0].numel()
    assert (grid == 255).sum() == grid.numel() - images.numel()


def test_png_holds_the_pixels(tmp_path):
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    path = save_png(tmp_path / "new" / "a.png", image)
    with Image.open(path) as opened:
        assert (opened.mode, opened.size) == ("RGB", (7, 5))
        assert torch.equal(torch.tensor(list(opened.tobytes())).view(5, 7, 3).permute(2, 0, 1), image.long())
