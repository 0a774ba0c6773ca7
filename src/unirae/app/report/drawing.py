"""Labelled rows of images, drawn so that a phone shows their labels too."""

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

Labels = str | Sequence[tuple[int, str]]
"""A text above the images, or several, each with the pixel column of the images where it begins."""

Strip = tuple[Labels, Image.Image]
"""Labels and the images below them, side by side; without labels ("") the images follow those above closely."""


def draw_blocks(blocks: Sequence[Sequence[Strip]]) -> Image.Image:
    """Blocks below each other on white; in each, every strip doubled under its labels."""
    font = ImageFont.load_default(size=_LABEL_PX)
    strips = [strip for block in blocks for strip in block]
    width = max(
        max([image.width * _SCALE, *(x * _SCALE + int(font.getlength(text)) for x, text in _placed(labels))])
        for labels, image in strips
    )
    height = sum(_label_height(labels) + image.height * _SCALE + _MARGIN_PX for labels, image in strips)
    height += _BLOCK_GAP_PX * (len(blocks) - 1)
    canvas = Image.new("RGB", (width + 2 * _MARGIN_PX, height + 2 * _MARGIN_PX), "white")
    draw, y = ImageDraw.Draw(canvas), _MARGIN_PX
    for block in blocks:
        for labels, image in block:
            for x, text in _placed(labels):
                draw.text((_MARGIN_PX + 4 + x * _SCALE, y), text, fill=_INK, font=font)
            y += _label_height(labels)
            # nearest: a reader sees the pixels that the decoder made, not an interpolation's
            large = image.resize((image.width * _SCALE, image.height * _SCALE), Image.Resampling.NEAREST)
            canvas.paste(large, (_MARGIN_PX, y))
            y += large.height + _MARGIN_PX
        y += _BLOCK_GAP_PX
    return canvas


def _placed(labels: Labels) -> Sequence[tuple[int, str]]:
    return [(0, labels)] if isinstance(labels, str) else labels


def _label_height(labels: Labels) -> int:
    return _LABEL_PX + 10 if any(text for _, text in _placed(labels)) else 0


def row(*groups: 'UInt8[Tensor, "n 3 H W"]', gap_px: int = 14) -> tuple[Image.Image, list[int]]:
    """Groups of images in one row with a gap between groups; also the pixel column where each group begins."""
    from unirae.core.images import image_grid

    pictures = [to_picture(image_grid(images, columns=len(images))) for images in groups]
    width = sum(picture.width for picture in pictures) + gap_px * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, pictures[0].height), "white")
    starts, x = [], 0
    for picture in pictures:
        canvas.paste(picture, (x, 0))
        starts.append(x)
        x += picture.width + gap_px
    return canvas, starts


def to_picture(image: 'UInt8[Tensor, "3 H W"]') -> Image.Image:
    """A tensor as a picture."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def save(path: Path, picture: Image.Image) -> Path:
    """As PNG, atomically."""
    return write_atomically(path, lambda file: picture.save(file, format="PNG", optimize=True))
