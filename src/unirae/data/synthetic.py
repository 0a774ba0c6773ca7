"""Seeded pictures without any file: a colour gradient with shapes on it, for smoke tests and timings."""

import colorsys
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from unirae.core.errors import ConfigError
from unirae.data.source import Sample, Source, Split, check_split
from unirae.data.transforms import Size, height_width

_COLOURS = (
    *("red", "orange", "yellow", "lime", "green", "mint"),
    *("cyan", "azure", "blue", "violet", "magenta", "rose"),
)
"""Names of twelve hues, 30 degrees apart."""
_SHAPES = {
    3: "triangle",
    4: "square",
    5: "pentagon",
    6: "hexagon",
    7: "heptagon",
    8: "octagon",
    9: "nonagon",
    10: "decagon",
    12: "dodecagon",
}
"""Polygons by their corners."""


class _Drawing(NamedTuple):
    """The class of a picture, the colours of the gradient's corners, and the hue, corners and number of its shapes."""

    label: int
    corner_colours: Image.Image
    hue: float
    corners: int
    shapes: int


class SyntheticSource(Source):
    """Picture ``i`` is a function of (seed, split, i); its class sets hue and corner count of its shapes."""

    name = "synthetic"
    caption_weights: tuple[float, ...] = (1.0,)

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
        rng, drawing = self._begin(index)
        height, width = self._size
        image = drawing.corner_colours.resize((width, height), Image.Resampling.BILINEAR)
        self._draw_shapes(image, drawing, rng)
        return Sample(image, drawing.label)

    def captions_of(self, index: int) -> tuple[str, ...]:
        """What is drawn on the gradient, such as ``three red triangles``; shapes may hide each other."""
        _, drawing = self._begin(index)
        number = {2: "two", 3: "three", 4: "four"}[drawing.shapes]
        colour = _COLOURS[round(drawing.hue * len(_COLOURS)) % len(_COLOURS)]
        return (f"{number} {colour} {_SHAPES.get(drawing.corners, f'{drawing.corners}-gon')}s",)

    def _begin(self, index: int) -> tuple[np.random.Generator, _Drawing]:
        """Draw all that the caption tells; the generator goes on with the places of the shapes."""
        rng = np.random.default_rng((*self._entropy, index))
        label = int(rng.integers(self.num_classes)) if self.class_names else 0
        corner_colours = Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8))
        hue = (label / max(self.num_classes, 1) + rng.uniform(-0.03, 0.03)) % 1.0
        shapes = int(rng.integers(2, 5))
        return rng, _Drawing(label, corner_colours, hue, 3 + label, shapes)

    def _draw_shapes(self, image: Image.Image, drawing: _Drawing, rng: np.random.Generator) -> None:
        """Regular polygons."""
        draw = ImageDraw.Draw(image)
        for _ in range(drawing.shapes):
            colour = colorsys.hsv_to_rgb(drawing.hue, rng.uniform(0.5, 1), rng.uniform(0.5, 1))
            x, y = rng.uniform(0.2, 0.8) * image.width, rng.uniform(0.2, 0.8) * image.height
            radius = max(1.0, rng.uniform(0.08, 0.25) * min(image.size))
            fill = tuple(int(255 * part) for part in colour)
            draw.regular_polygon((x, y, radius), drawing.corners, rotation=rng.uniform(0, 360), fill=fill)
