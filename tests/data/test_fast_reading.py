"""Reading training images fast: near to exact, where asked for, and nowhere else."""

import numpy as np
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from unirae.data.dataset import ImageDataset
from unirae.data.folder import FolderSource
from unirae.data.hf import HFSource
from unirae.data.photos import read_photo
from unirae.data.synthetic import SyntheticSource
from unirae.data.transforms import AdmCenterCrop, AdmCropFlip, ScaleShift, Stage1Transform
from unirae.data.views import AllViews

SIZE = 64
MAKERS = [Stage1Transform, AdmCropFlip, AdmCenterCrop, ScaleShift]


def mosaic(width: int, height: int) -> Image.Image:
    """Photographs side by side at their own resolution: an enlarged one has nothing left to lose."""
    picture = Image.new("RGB", (width, height))
    tiles = [read_photo(name) for name in ("rocket", "coffee", "china")]
    for number, left in enumerate(range(0, width, 400)):
        for row, top in enumerate(range(0, height, 300)):
            picture.paste(tiles[(number + row) % 3], (left, top))
    return picture


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    for number, size in enumerate([(1600, 1200), (1000, 1500), (900, 676)]):
        mosaic(*size).save(folder / f"{number}.jpg", quality=90)
    return folder


def images_of(folder, make, **options) -> ImageDataset:
    fast = options.pop("fast", False)
    source = FolderSource(split="train", data_dir=folder, val_fraction=0)
    return ImageDataset(source=source, transform=make(size=SIZE, fast=fast), **options)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(255**2 / (a.double() - b.double()).square().mean()))


@pytest.mark.parametrize("make", MAKERS)
def test_fast_resizing_is_within_a_few_last_bits(large, make):
    exact, fast = images_of(large, make), images_of(large, make, fast=True)
    assert all(psnr(exact[i]["image"], fast[i]["image"]) > 65 for i in range(len(exact)))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("fast", [True, False])
def test_fast_decoding_is_near_and_differs(large, make, fast):
    exact, reduced = images_of(large, make), images_of(large, make, fast=fast, fast_decode=True)
    distances = [psnr(exact[i]["image"], reduced[i]["image"]) for i in range(len(exact))]
    assert 44 < min(distances) < 60, "otherwise nothing was reduced"


def test_small_pictures_are_decoded_exactly(tmp_path):
    mosaic(2 * SIZE + 20, 2 * SIZE + 3).save(tmp_path / "a.jpg")
    (exact,), (reduced,) = (
        images_of(tmp_path, AdmCenterCrop),
        images_of(tmp_path, AdmCenterCrop, fast_decode=True),
    )
    assert torch.equal(exact["image"], reduced["image"])


def test_rows_of_hugging_face_come_smaller_too(large, tmp_path):
    rows = {"image": [str(large / "0.jpg")]}
    Dataset.from_dict(rows, features=Features({"image": ImageFeature()})).save_to_disk(tmp_path / "hf")
    source = HFSource(split="train", data_dir=tmp_path / "hf", val_fraction=0)
    assert source[0].image.size == (1600, 1200)
    assert source.reduced(0, (128, 128)).image.size == (200, 150)


def test_other_sources_are_read_as_they_are():
    source = SyntheticSource(split="train", image_size=256)
    options = {"source": source, "transform": AdmCenterCrop(size=SIZE)}
    exact, fast = ImageDataset(**options), ImageDataset(**options, fast_decode=True)
    assert torch.equal(exact[0]["image"], fast[0]["image"])


def test_what_is_computed_from_fast_images_says_so(large):
    def description(make, **options):
        return AllViews(images_of(large, make, **options)).description

    for make in (AdmCropFlip, Stage1Transform):
        assert not {"fast", "fast_decode"} & set(description(make)), "what was kept before stays valid"
        assert description(make, fast=True)["fast"] is True
        assert description(make, fast_decode=True)["fast_decode"] is True


def test_pixels_are_8_bit_whichever_way(large):
    for fast in (True, False):
        image = images_of(large, Stage1Transform, fast=fast, fast_decode=fast)[0]["image"]
        assert image.dtype == torch.uint8
        assert np.ptp(image.numpy()) > 100
