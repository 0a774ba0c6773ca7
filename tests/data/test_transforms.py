"""Crops: the reference's numbers, every size, and randomness from the generator alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms as tv

from unirae.core.errors import ConfigError
from unirae.data.resize import bicubic
from unirae.data.transforms import LONGEST, AdmCenterCrop, AdmCropFlip, ScaleShift, Stage1Transform, to_tensor

GOLDEN = load_file(Path(__file__).parents[1] / "golden/adm_center_crop.safetensors")
MAKERS = [Stage1Transform, AdmCenterCrop, AdmCropFlip, ScaleShift]

sides = st.integers(1, 90)


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [32, 128])
def test_adm_centre_crop_equals_the_reference(size):
    image = Image.fromarray(GOLDEN["image_hwc"].numpy())
    assert torch.equal(AdmCenterCrop(size=size)(image), GOLDEN[f"crop_{size}"].permute(2, 0, 1))


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=40, deadline=None)
@given(height=sides, width=sides, out_h=st.integers(1, 40), out_w=st.integers(1, 40), seed=st.integers(0, 9))
def test_any_picture_fits_any_size(make, height, width, out_h, out_w, seed):
    out = make(size=(out_h, out_w))(noise(height, width), generator(seed))
    assert out.shape == (3, out_h, out_w)
    assert out.dtype == torch.uint8
    assert out.is_contiguous() or make is AdmCropFlip


@pytest.mark.parametrize("make", [AdmCenterCrop, Stage1Transform])
@settings(max_examples=30, deadline=None)
@given(height=sides, width=sides, out_h=st.integers(1, 40), out_w=st.integers(1, 40))
def test_crops_show_nothing_but_the_picture(make, height, width, out_h, out_w):
    """No padding sneaks in: a picture of one colour stays of one colour."""
    image = Image.new("RGB", (width, height), (10, 200, 90))
    out = make(size=(out_h, out_w))(image, generator())
    assert torch.equal(out, torch.tensor([10, 200, 90], dtype=torch.uint8)[:, None, None].expand_as(out))


@pytest.mark.parametrize("make", MAKERS)
def test_the_generator_decides_everything(make):
    transform, image = make(size=20), noise(40, 50)
    torch.manual_seed(1)
    first = transform(image, generator(7))
    torch.manual_seed(2)
    assert torch.equal(first, transform(image, generator(7)))
    different = [not torch.equal(first, transform(image, generator(seed))) for seed in range(20)]
    assert any(different) == (make is not AdmCenterCrop)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(20, 120), width=st.integers(20, 120), size=st.sampled_from([16, 31, 256]))
def test_stage1_resize_is_torchvisions(height, width, size):
    """Every crop is a window of the picture that the reference's Resize gives."""
    image = noise(height, width)
    resized = to_tensor(
        tv.Resize(384 if size == 256 else int(1.5 * size), tv.InterpolationMode.BICUBIC)(image)
    )
    crop = Stage1Transform(size=size)(image, generator())
    g = generator()
    top = int(torch.randint(resized.shape[1] - size + 1, (), generator=g))
    left = int(torch.randint(resized.shape[2] - size + 1, (), generator=g))
    assert torch.equal(crop, resized[:, top : top + size, left : left + size])


def test_stage1_crops_reach_every_place():
    image = Image.fromarray(np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3))
    crops = {bytes(Stage1Transform(size=4)(image, generator(s)).numpy().tobytes()) for s in range(200)}
    assert len(crops) == 9


def test_flip_mirrors_about_half_of_the_pictures():
    image, plain = noise(8, 8), AdmCenterCrop(size=8)(noise(8, 8))
    outs = [AdmCropFlip(size=8)(image, generator(s)) for s in range(200)]
    flipped = sum(torch.equal(out, plain.flip(-1)) for out in outs)
    assert flipped + sum(torch.equal(out, plain) for out in outs) == 200
    assert 70 < flipped < 130


def test_scale_shift_fills_with_white_and_stays_near():
    black = Image.new("RGB", (64, 64))
    for seed in range(50):
        out = ScaleShift(size=64)(black, generator(seed))
        assert set(out.unique().tolist()) <= {0, 255}
        assert (out == 0).float().mean() > 0.6
    same = ScaleShift(size=64, min_scale=1, max_scale=1, max_shift=0)(noise(64, 64), generator())
    assert torch.equal(same, to_tensor(noise(64, 64)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Stage1Transform(size=32, resize=31),
        lambda: AdmCenterCrop(size=0),
        lambda: AdmCenterCrop(size=(3, 4, 5)),
        lambda: ScaleShift(size=8, min_scale=2, max_scale=1),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", [(3000, 1), (1, 3000), (20, 4000)])
def test_very_long_pictures_cost_no_more_than_others(make, shape, fast, caplog, monkeypatch):
    """Resized whole they would have 442 million pixels and take seconds and gigabytes for one crop."""
    largest = 0

    def resize(image, size, *, fast):
        nonlocal largest
        largest = max(largest, size[0] * size[1])
        return bicubic(image, size, fast=fast)

    monkeypatch.setattr("unirae.data.transforms.bicubic", resize)
    monkeypatch.setattr("unirae.core.log._SAID", set())
    transform = make(size=256, fast=fast)
    for _ in range(2):
        assert transform(noise(*shape), generator()).shape == (3, 256, 256)
    assert largest <= 384 * 384 * LONGEST
    assert len(caplog.records) == (make is not ScaleShift)


@pytest.mark.parametrize("transform", [AdmCenterCrop(size=8), Stage1Transform(size=(8, 12))])
@pytest.mark.parametrize("shape", [(10, 100), (100, 10), (9, 96)])
def test_long_pictures_are_used_whole(transform, shape, monkeypatch):
    """Up to ten times as long as wide, and more, nothing is different from what it was without the limit."""
    limited = transform(noise(*shape), generator())
    monkeypatch.setattr("unirae.data.transforms.LONGEST", 10**6)
    assert torch.equal(limited, transform(noise(*shape), generator()))


def test_the_middle_of_a_very_long_picture_is_what_the_whole_gives(monkeypatch):
    image = noise(300, 3)
    limited = AdmCenterCrop(size=8)(image)
    monkeypatch.setattr("unirae.data.transforms.LONGEST", 10**6)
    assert torch.equal(limited, AdmCenterCrop(size=8)(image))
