"""A grid of pictures with their prompts below them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from PIL import Image
    from torch import Tensor

_SMALLEST_COLUMN_PX = 192
"""Smaller pictures are drawn a whole number of times as large, so that words fit below them."""
_LINES = 4
_GAP_PX = 10
_INK, _FAINT = (30, 34, 40), (140, 146, 154)
_NO_WORDS = "(no words)"


def captioned_grid(
    images: "UInt8[Tensor, 'n 3 H W']", captions: Sequence[str], *, columns: int
) -> "Image.Image":
    """Pictures on white, row by row, each with its words below it, at most four lines of them."""
    from PIL import Image, ImageDraw

    from unirae.app.pictures.words import fitted

    scale = max(1, math.ceil(_SMALLEST_COLUMN_PX / images.shape[3]))
    height, width = images.shape[2] * scale, images.shape[3] * scale
    size_px = min(max(13, width // 22), 24)
    line_px = round(size_px * 1.3)
    words = [
        fitted(caption if caption.strip() else _NO_WORDS, width=width, lines=_LINES, size_px=size_px)
        for caption in captions
    ]
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    heights = [height + line_px * max(len(words[i].lines) for i in row) + 2 * _GAP_PX for row in rows]
    canvas = Image.new("RGB", (columns * (width + _GAP_PX) + _GAP_PX, sum(heights) + _GAP_PX), "white")
    draw, top = ImageDraw.Draw(canvas), _GAP_PX
    for row, row_height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = _GAP_PX + column * (width + _GAP_PX)
            picture = Image.fromarray(images[i].permute(1, 2, 0).contiguous().cpu().numpy())
            canvas.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, top))
            ink = _INK if captions[i].strip() else _FAINT
            below = top + height + _GAP_PX // 2
            words[i].draw(draw, left=left, top=below, width=width, line_px=line_px, ink=ink)
        top += row_height
    return canvas
