"""Rows of images under labels, drawn so that a phone shows these too."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from unirae.core.io import write_atomically

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor

    Images = UInt8[Tensor, "n 3 H W"]

_SCALE = 2
_LABEL_PX = 34
_LINE_PX = _LABEL_PX + 14
_BLOCK_GAP_PX = 36
_MARGIN_PX = 8
_INK = (30, 34, 40)

Line = Sequence[tuple[int, str]]
"""Texts beside each other, each with the pixel column of the images where it begins."""

Strip = tuple[Sequence[Line], Image.Image]
"""Lines of text and the images below them; without lines the images follow those above closely."""


def strip(*lines: str | Sequence[str], groups: "Sequence[Images]", gap_px: int = 14) -> Strip:
    """Groups of images in one row under lines of text.

    Args:
        lines: one text for the whole row, or a text for each group, which begins where the group does.
        groups: from left to right.
        gap_px: white pixels between two groups.
    """
    from unirae.core.images import image_grid

    grids = [image_grid(images, columns=len(images)).permute(1, 2, 0).contiguous() for images in groups]
    pictures = [Image.fromarray(grid.cpu().numpy()) for grid in grids]
    starts = [sum(p.width + gap_px for p in pictures[:number]) for number in range(len(pictures))]
    canvas = Image.new("RGB", (starts[-1] + pictures[-1].width, pictures[0].height), "white")
    for x, picture in zip(starts, pictures, strict=True):
        canvas.paste(picture, (x, 0))
    placed = ([(0, line)] if isinstance(line, str) else zip(starts, line, strict=True) for line in lines)
    return [list(line) for line in placed], canvas


def draw_blocks(blocks: Sequence[Sequence[Strip]]) -> Image.Image:
    """Blocks of strips below each other on white, the images twice as large."""
    font = ImageFont.load_default(size=_LABEL_PX)
    strips = [one for block in blocks for one in block]
    width = max(
        max(
            [
                image.width * _SCALE,
                *(x * _SCALE + int(font.getlength(text)) for line in lines for x, text in line),
            ]
        )
        for lines, image in strips
    )
    height = sum(len(lines) * _LINE_PX + image.height * _SCALE + _MARGIN_PX for lines, image in strips)
    height += _BLOCK_GAP_PX * (len(blocks) - 1)
    canvas = Image.new("RGB", (width + 2 * _MARGIN_PX, height + 2 * _MARGIN_PX), "white")
    draw, y = ImageDraw.Draw(canvas), _MARGIN_PX
    for block in blocks:
        for lines, image in block:
            for line in lines:
                for x, text in line:
                    draw.text((_MARGIN_PX + 4 + x * _SCALE, y), text, fill=_INK, font=font)
                y += _LINE_PX
            # nearest: a reader sees the pixels that the decoder made, not an interpolation's
            large = image.resize((image.width * _SCALE, image.height * _SCALE), Image.Resampling.NEAREST)
            canvas.paste(large, (_MARGIN_PX, y))
            y += large.height + _MARGIN_PX
        y += _BLOCK_GAP_PX
    return canvas


def save(path: Path, blocks: Sequence[Sequence[Strip]]) -> Path:
    """Write blocks of strips as a PNG, atomically."""
    picture = draw_blocks(blocks)
    return write_atomically(path, lambda file: picture.save(file, format="PNG", optimize=True))
