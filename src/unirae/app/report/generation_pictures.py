"""Pictures of stage 2 for the demo's report: samples beside real images, what guidance does, the way from noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unirae.app.report.drawing import draw_blocks, row, save

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor

    Images = UInt8[Tensor, "n 3 H W"]


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """Samples of a class, and real images of it."""

    name: str
    samples: "Images"
    real: "Images"


def draw_classes(path: Path, rows: Sequence[ClassRow]) -> Path:
    """A row per class: samples on the left, real images on the right."""
    strips = []
    for number, one in enumerate(rows):
        picture, starts = row(one.samples, one.real)
        right = "real pictures" if number == 0 else ""
        strips.append(([(starts[0], one.name), (starts[1], right)], picture))
    return save(path, draw_blocks([strips]))


@dataclass(frozen=True, kw_only=True)
class GuidanceRow:
    """The same noises, guided by one scale; a group of images per class."""

    scale: float
    groups: Sequence["Images"]


def draw_guidance(path: Path, rows: Sequence[GuidanceRow], class_names: Sequence[str]) -> Path:
    """Scales downward, noises to the right; in a column only the guidance differs."""
    strips = []
    for number, one in enumerate(rows):
        picture, starts = row(*one.groups)
        if number == 0:
            heads = [(start, name) for start, name in zip(starts, class_names, strict=True)]
            strips.append((heads, picture.crop((0, 0, picture.width, 1))))
        label = f"scale {one.scale:g}" + (" (no guidance)" if one.scale == 1 else "")
        strips.append((label, picture))
    return save(path, draw_blocks([strips]))


@dataclass(frozen=True, kw_only=True)
class DenoisingStrip:
    """One sample at several times: the noisy latent decoded, and the end that the network expects, decoded."""

    name: str
    states: "Images"
    expected: "Images"


def draw_denoising(path: Path, times: Sequence[float], strips: Sequence[DenoisingStrip]) -> Path:
    """Time runs to the right, from noise (1) to data (0)."""
    blocks = []
    for one in strips:
        states, _ = row(one.states)
        expected, _ = row(one.expected)
        cell = states.width // len(times)
        heads = [(number * cell, f"t {_short(t)}") for number, t in enumerate(times)]
        blocks.append([(one.name, states.crop((0, 0, states.width, 1))), (heads, states), ("", expected)])
    return save(path, draw_blocks(blocks))


def _short(t: float) -> str:
    return "0" if t < 0.005 else f"{t:.2f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, kw_only=True)
class NearestBlock:
    """Samples, and below each the training images that are nearest to it, nearest first."""

    title: str
    samples: "Images"
    neighbours: Sequence["Images"]


def draw_nearest(path: Path, blocks: Sequence[NearestBlock]) -> Path:
    """Each block under its title."""
    drawn = []
    for block in blocks:
        ranks = ["nearest training pictures", *[""] * (len(block.neighbours) - 1)]
        strips = [(block.title, row(block.samples)[0])]
        strips += [(rank, row(images)[0]) for rank, images in zip(ranks, block.neighbours, strict=True)]
        drawn.append(strips)
    return save(path, draw_blocks(drawn))
