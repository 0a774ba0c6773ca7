"""Pictures of stage 1 for the demo's report: originals above what was made of them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from unirae.app.report.drawing import Strip, draw_blocks, save, to_picture

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor


def draw_reconstructions(
    path: Path, rows: 'Sequence[tuple[str, UInt8[Tensor, "n 3 H W"]]]', *, columns: int = 8
) -> Path:
    """Write rows of the same pictures, one row per reconstructor, each under its label, twice as large.

    More pictures than ``columns`` go into a further block of rows.
    """
    from unirae.core.images import image_grid

    count = len(rows[0][1])
    blocks = []
    for start in range(0, count, columns):
        blocks.append(
            [
                (label, to_picture(image_grid(images[start : start + columns], columns=columns)))
                for label, images in rows
            ]
        )
    return save(path, draw_blocks(blocks))


def draw_learning(path: Path, samples: Sequence[Path], *, moments: int = 5) -> Path | None:
    """Write the originals and, below them, what a run made of them at a few moments of its training.

    Args:
        samples: ``step-NNNNNNN.png`` of a run: originals above their reconstructions, one row each.
        moments: how many of them to show; the early ones lie closer together, as learning slows down.

    Returns:
        The path, or None if there are no samples.
    """
    chosen = choose_moments({_step(sample): sample for sample in samples}, moments)
    if not chosen:
        return None
    strips: list[Strip] = []
    for step, file in chosen.items():
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        middle = picture.height // 2
        if not strips:
            strips.append(("originals", picture.crop((0, 0, picture.width, middle))))
        label = f"after step {step:,}"
        strips.append((label, picture.crop((0, middle, picture.width, picture.height))))
    return save(path, draw_blocks([strips]))


def draw_growth(path: Path, samples: Sequence[Path], *, moments: int = 5, columns: int = 8) -> Path | None:
    """Write the first row of a generator's sample grids at a few moments of its training.

    Args:
        samples: ``step-NNNNNNN.png`` of a run, from the same noise each, in rows of ``columns``.
        moments: how many of them to show.

    Returns:
        The path, or None if there are fewer than two grids.
    """
    chosen = choose_moments({_step(sample): sample for sample in samples}, moments)
    strips: list[Strip] = []
    for step, file in chosen.items():
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        rows = max(1, round(picture.height * columns / picture.width))
        strips.append((f"after step {step:,}", picture.crop((0, 0, picture.width, picture.height // rows))))
    return save(path, draw_blocks([strips])) if len(strips) > 1 else None


def choose_moments(samples: dict[int, Path], count: int) -> dict[int, Path]:
    """At most ``count`` steps and their files: first, last, and more early ones than late ones."""
    steps = sorted(samples)
    if len(steps) <= count:
        return {step: samples[step] for step in steps}
    first, last = steps[0], steps[-1]
    wanted = [first + (last - first) * (i / (count - 1)) ** 2 for i in range(1, count - 1)]
    chosen = {first, last}
    for target in wanted:
        chosen.add(min((step for step in steps if step not in chosen), key=lambda step: abs(step - target)))
    return {step: samples[step] for step in sorted(chosen)}


def _step(sample: Path) -> int:
    match = re.search(r"(\d+)$", sample.stem)
    if match is None:
        raise ValueError(f"{sample.name}: the name of a sample ends in its step, as in step-0000100.png")
    return int(match.group(1))
