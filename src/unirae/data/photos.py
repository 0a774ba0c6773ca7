"""Crops of the colour photographs inside the scikit-image and scikit-learn wheels: real photos, no download.

A photo is a class. Training crops come from its first three quarters, along the longer side, validation crops
from the last quarter: the regions do not touch.
"""

import hashlib
from importlib import resources
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, DataError
from unirae.data.decode import read_rgb
from unirae.data.source import Sample, Source, Split, check_split

_TRAIN_PART = 0.75
FILES = {
    "china": ("sklearn.datasets.images", "china.jpg"),
    "flower": ("sklearn.datasets.images", "flower.jpg"),
    "astronaut": ("skimage.data", "astronaut.png"),
    "cat": ("skimage.data", "chelsea.png"),
    "coffee": ("skimage.data", "coffee.png"),
    "motorcycle": ("skimage.data", "motorcycle_left.png"),
    "galaxies": ("skimage.data", "hubble_deep_field.jpg"),
    "rocket": ("skimage.data", "rocket.jpg"),
}
_SHOWN = {
    "china": "a Chinese temple",
    "flower": "a flower",
    "astronaut": "an astronaut",
    "cat": "a cat",
    "coffee": "a cup of coffee",
    "motorcycle": "a motorcycle",
    "galaxies": "galaxies",
    "rocket": "a rocket",
}


class PhotosSource(Source):
    """Square crops at places that a seed fixes, ``crops_per_photo`` of each photo."""

    name = "photos"
    caption_weights: tuple[float, ...] = (1.0,)

    def __init__(
        self,
        *,
        split: Split,
        crop_px: int = 96,
        train_crops_per_photo: int = 512,
        val_crops_per_photo: int = 32,
        seed: int = 0,
    ):
        """``crop_px``: side of the crops before the transform, at most a quarter of the cat's photo (113)."""
        check_split(split)
        self.class_names = tuple(FILES)
        regions = [_region(read_photo(name), split) for name in FILES]
        smallest = min(min(region.size) for region in regions)
        if not 1 <= crop_px <= smallest:
            raise ConfigError(f"crop_px={crop_px} does not fit the photos; use 1 to {smallest}")
        self._regions, self._crop_px = regions, crop_px
        self._per_photo = train_crops_per_photo if split == "train" else val_crops_per_photo
        self._entropy = (seed, ("train", "val").index(split))
        self.fingerprint: dict[str, Any] = {
            "source": self.name,
            "split": split,
            "crop_px": crop_px,
            "count": len(self),
            "seed": seed,
        }

    def content(self, *, anew: bool = False) -> dict[str, Any]:
        """The fingerprint and the pixels of the photos: another version of a wheel may have others."""
        digest = hashlib.sha256()
        for region in self._regions:
            digest.update(f"{region.size}".encode() + region.tobytes())
        return {**self.fingerprint, "photos_sha256": digest.hexdigest()}

    def captions_of(self, index: int) -> tuple[str, ...]:
        """What the crop is of, such as ``part of a photo of a cat``."""
        return (f"part of a photo of {_SHOWN[self.class_names[index % len(self._regions)]]}",)

    def __len__(self) -> int:
        """Number of crops in this split."""
        return len(self._regions) * self._per_photo

    def __getitem__(self, index: int) -> Sample:
        """Cut one crop; neighbours in number come from different photos."""
        if not 0 <= index < len(self):
            raise IndexError(f"crop {index} of {len(self)}")
        label = index % len(self._regions)
        region, side = self._regions[label], self._crop_px
        rng = np.random.default_rng((*self._entropy, index))
        left = int(rng.integers(region.width - side + 1))
        top = int(rng.integers(region.height - side + 1))
        return Sample(region.crop((left, top, left + side, top + side)), label)


def _region(photo: Image.Image, split: Split) -> Image.Image:
    """The part of a photo that belongs to a split."""
    width, height = photo.size
    if width >= height:
        border = int(width * _TRAIN_PART)
        return photo.crop((0, 0, border, height) if split == "train" else (border, 0, width, height))
    border = int(height * _TRAIN_PART)
    return photo.crop((0, 0, width, border) if split == "train" else (0, border, width, height))


def read_photo(name: str) -> Image.Image:
    """A photo of :data:`FILES` inside an installed package, found without importing it."""
    package, file = FILES[name]
    distribution, *folders = package.split(".")
    if find_spec(distribution) is not None:
        path = resources.files(distribution).joinpath(*folders, file)
        if path.is_file():
            return read_rgb(path.read_bytes())
    raise DataError(
        f"{argument('PhotosSource')} needs {package}/{file}: pip install scikit-image scikit-learn"
    )
