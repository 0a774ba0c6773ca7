"""Pictures of the demo's report: labelled rows of images, drawn so that a phone shows their labels too."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from unirae.core.io import write_atomically

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor

_SCALE = 2
_LABEL_PX = 34
_BLOCK_GAP_PX = 36
_MARGIN_PX = 8
_INK = (30, 34, 40)

Strip = tuple[str, Image.Image]
"""A label and the images below it, side by side."""


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
                (label, _to_pil(image_grid(images[start : start + columns], columns=columns)))
                for label, images in rows
            ]
        )
    return _save(path, _draw_blocks(blocks))


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
    return _save(path, _draw_blocks([strips]))


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


def _to_pil(image: 'UInt8[Tensor, "3 H W"]') -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def _draw_blocks(blocks: Sequence[Sequence[Strip]]) -> Image.Image:
    """Blocks below each other on white; in each, every strip doubled under its label."""
    font = ImageFont.load_default(size=_LABEL_PX)
    row_label_px = _LABEL_PX + 10
    strips = [strip for block in blocks for strip in block]
    width = max(max(image.width * _SCALE, int(font.getlength(label))) for label, image in strips)
    height = sum(row_label_px + image.height * _SCALE + _MARGIN_PX for _, image in strips)
    height += _BLOCK_GAP_PX * (len(blocks) - 1)
    canvas = Image.new("RGB", (width + 2 * _MARGIN_PX, height + 2 * _MARGIN_PX), "white")
    draw, y = ImageDraw.Draw(canvas), _MARGIN_PX
    for block in blocks:
        for label, image in block:
            draw.text((_MARGIN_PX + 4, y), label, fill=_INK, font=font)
            y += row_label_px
            # nearest: a reader sees the pixels that the decoder made, not an interpolation's
            large = image.resize((image.width * _SCALE, image.height * _SCALE), Image.Resampling.NEAREST)
            canvas.paste(large, (_MARGIN_PX, y))
            y += large.height + _MARGIN_PX
        y += _BLOCK_GAP_PX
    return canvas


def _save(path: Path, picture: Image.Image) -> Path:
    return write_atomically(path, lambda file: picture.save(file, format="PNG", optimize=True))
