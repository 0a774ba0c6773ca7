"""Pictures of the demo's report: what is in the rows of each."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from unirae.app.pictures.strips import Strip, save, strip

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor

    Images = UInt8[Tensor, "n 3 H W"]


def draw_reconstructions(path: Path, rows: "Sequence[tuple[str, Images]]", *, columns: int = 8) -> Path:
    """Draw the same pictures once for each reconstructor, a row under its label.

    More pictures than ``columns`` go into a further block of rows.
    """
    starts = range(0, len(rows[0][1]), columns)
    return save(
        path, [[strip(name, groups=[images[i : i + columns]]) for name, images in rows] for i in starts]
    )


def draw_learning(path: Path, samples: Sequence[Path], *, moments: int = 5) -> Path | None:
    """Draw the originals and, below them, what a run made of them at a few moments of its training.

    Args:
        path: the file to write.
        samples: ``step-NNNNNNN.png`` of a run: originals above their reconstructions, one row each.
        moments: number of moments to show; the early ones lie closer together, as learning slows down.

    Returns:
        The path, or None if there are no samples.
    """
    strips: list[Strip] = []
    for step, picture in _open_some(samples, moments).items():
        middle = picture.height // 2
        if not strips:
            strips.append(([[(0, "originals")]], picture.crop((0, 0, picture.width, middle))))
        strips.append((_after(step), picture.crop((0, middle, picture.width, picture.height))))
    return save(path, [strips]) if strips else None


def draw_growth(path: Path, samples: Sequence[Path], *, moments: int = 5, columns: int = 8) -> Path | None:
    """Draw the first row of a generator's sample grids at a few moments of its training.

    Args:
        path: the file to write.
        samples: ``step-NNNNNNN.png`` of a run, from the same noise each, in rows of ``columns``.
        moments: number of moments to show.
        columns: images in a row of each grid.

    Returns:
        The path, or None if there are fewer than two grids.
    """
    strips: list[Strip] = []
    for step, picture in _open_some(samples, moments).items():
        rows = max(1, round(picture.height * columns / picture.width))
        strips.append((_after(step), picture.crop((0, 0, picture.width, picture.height // rows))))
    return save(path, [strips]) if len(strips) > 1 else None


def choose_moments(steps: Iterable[int], count: int) -> list[int]:
    """At most ``count`` of the steps, ascending: the first, the last, and more early ones than late ones."""
    steps = sorted(steps)
    last = len(steps) - 1
    if last < count:
        return steps
    return [steps[max(i, int(last * (i / (count - 1)) ** 2 + 0.5))] for i in range(count)]


def _open_some(samples: Sequence[Path], count: int) -> dict[int, Image.Image]:
    files = {int(sample.stem.rpartition("-")[2]): sample for sample in samples}
    pictures = {}
    for step in choose_moments(files, count):
        with Image.open(files[step]) as opened:
            pictures[step] = opened.convert("RGB")
    return pictures


def _after(step: int) -> list[list[tuple[int, str]]]:
    return [[(0, f"after step {step:,}")]]


def draw_classes(path: Path, rows: "Sequence[tuple[str, Images, Images]]") -> Path:
    """Draw a row for each (class name, samples, real images), the samples on the left."""
    heads = ["real pictures", *[""] * (len(rows) - 1)]
    strips = [
        strip((name, head), groups=(samples, real))
        for head, (name, samples, real) in zip(heads, rows, strict=True)
    ]
    return save(path, [strips])


def draw_guidance(
    path: Path, rows: "Sequence[Sequence[tuple[str, Sequence[Images]]]]", class_names: Sequence[str]
) -> Path:
    """Draw scales downward, kinds of guidance side by side; in a column only the scale differs.

    Args:
        path: the file to write.
        rows: for each kind of guidance its label, and the images of each class.
        class_names: of the images.
    """
    strips = []
    for row in rows:
        groups = [images for _, classes in row for images in classes]
        labels = [text for label, classes in row for text in (label, *[""] * (len(classes) - 1))]
        heads = [] if strips else [[*class_names] * len(row)]
        strips.append(strip(*heads, labels, groups=groups))
    return save(path, [strips])


def draw_denoising(
    path: Path, times: Sequence[float], samples: "Sequence[tuple[str, Images, Images]]"
) -> Path:
    """Draw samples on their way from noise (time 1) on the left to data (0) on the right.

    Args:
        path: the file to write.
        times: one for each column.
        samples: (class name, the noisy latent decoded at each time, the end that the network expects, decoded).
    """
    heads = [f"t {'0' if t < 0.005 else format(t, '.2f').rstrip('0').rstrip('.')}" for t in times]
    blocks = []
    for name, states, expected in samples:
        cells = [images.split(1) for images in (states, expected)]
        blocks.append([strip(name, heads, groups=cells[0], gap_px=0), strip(groups=cells[1], gap_px=0)])
    return save(path, blocks)


def draw_nearest(path: Path, blocks: "Sequence[tuple[str, Images, Sequence[Images]]]") -> Path:
    """Draw a block for each (title, samples, neighbours); below a sample its neighbours, nearest first."""
    drawn = []
    for title, samples, (nearest, *others) in blocks:
        strips = [strip(title, groups=[samples]), strip("nearest training pictures", groups=[nearest])]
        drawn.append([*strips, *(strip(groups=[images]) for images in others)])
    return save(path, drawn)
