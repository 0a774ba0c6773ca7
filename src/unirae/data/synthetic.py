"""Seeded pictures without any file: a colour gradient with shapes on it, for smoke tests and timings."""

import colorsys
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from unirae.core.errors import ConfigError
from unirae.data.source import Sample, Source, Split, check_split
from unirae.data.transforms import Size, height_width


class SyntheticSource(Source):
    """Picture ``i`` is a function of (seed, split, i); its class sets hue and corner count of its shapes."""

    name = "synthetic"

    def __init__(
        self,
        *,
        split: Split,
        image_size: Size = 256,
        train_count: int = 1024,
        val_count: int = 128,
        classes: int = 10,
        seed: int = 0,
    ):
        """``image_size`` in pixels, or (height, width); ``classes=0`` leaves the pictures unlabelled."""
        check_split(split)
        self._size = height_width(image_size, "image_size")
        self._count = train_count if split == "train" else val_count
        if self._count < 1 or classes < 0:
            raise ConfigError(
                f"synthetic data needs counts ≥ 1 and classes ≥ 0, not {self._count} and {classes}"
            )
        self._entropy = (seed, ("train", "val").index(split))
        self.class_names = tuple(f"shape {k}" for k in range(classes))
        self.fingerprint: dict[str, Any] = {
            "source": self.name,
            "split": split,
            "image_size": list(self._size),
            "count": self._count,
            "classes": classes,
            "seed": seed,
        }

    def __len__(self) -> int:
        """Number of images that this split is configured to have."""
        return self._count

    def __getitem__(self, index: int) -> Sample:
        """Draw the picture."""
        if not 0 <= index < self._count:
            raise IndexError(f"picture {index} of {self._count}")
        rng = np.random.default_rng((*self._entropy, index))
        label = int(rng.integers(self.num_classes)) if self.class_names else 0
        image = self._gradient(rng)
        hue = (label / max(self.num_classes, 1) + rng.uniform(-0.03, 0.03)) % 1.0
        self._draw_shapes(image, hue, corners=3 + label, rng=rng)
        return Sample(image, label)

    def _gradient(self, rng: np.random.Generator) -> Image.Image:
        """A bilinear blend of four random colours, one for each corner."""
        height, width = self._size
        corners = Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8))
        return corners.resize((width, height), Image.Resampling.BILINEAR)

    def _draw_shapes(self, image: Image.Image, hue: float, corners: int, rng: np.random.Generator) -> None:
        """Two to four regular polygons."""
        draw = ImageDraw.Draw(image)
        for _ in range(rng.integers(2, 5)):
            colour = colorsys.hsv_to_rgb(hue, rng.uniform(0.5, 1), rng.uniform(0.5, 1))
            x, y = rng.uniform(0.2, 0.8) * image.width, rng.uniform(0.2, 0.8) * image.height
            radius = max(1.0, rng.uniform(0.08, 0.25) * min(image.size))
            fill = tuple(int(255 * part) for part in colour)
            draw.regular_polygon((x, y, radius), corners, rotation=rng.uniform(0, 360), fill=fill)
