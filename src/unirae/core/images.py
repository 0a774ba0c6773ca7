"""Conversions between uint8 and float images: one pair, and one grid for pictures."""

import math
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unirae.core.io import write_atomically


def to_float(images: UInt8[Tensor, "*b 3 H W"]) -> Float[Tensor, "*b 3 H W"]:
    """Convert 8-bit RGB in [0, 255] to float32 in [0, 1]."""
    return images.float().div_(255.0)


def to_uint8(images: Float[Tensor, "*b 3 H W"]) -> UInt8[Tensor, "*b 3 H W"]:
    """RGB in [0, 1] to 8 bits: clamp, then round to nearest (recipe trap 4: neither truncate nor wrap)."""
    return images.float().clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)


def quantise(images: Float[Tensor, "*b 3 H W"]) -> Float[Tensor, "*b 3 H W"]:
    """Clamp RGB and round it to the 8-bit grid, still float: what a saved file would hold."""
    return images.clamp(0.0, 1.0).mul(255.0).round().div(255.0)


def to_signed(images: Float[Tensor, "*b 3 H W"]) -> Float[Tensor, "*b 3 H W"]:
    """RGB in [0, 1] to [-1, 1], the range that LPIPS and the discriminators read."""
    return images * 2.0 - 1.0


def image_grid(images: UInt8[Tensor, "n 3 H W"], columns: int, gap_px: int = 2) -> UInt8[Tensor, "3 h w"]:
    """Lay images out row by row on white with ``gap_px`` between them; a short last row is left white."""
    n, channels, height, width = images.shape
    rows = math.ceil(n / columns)
    cell_h, cell_w = height + gap_px, width + gap_px
    grid = images.new_full((channels, rows * cell_h + gap_px, columns * cell_w + gap_px), 255)
    for i, image in enumerate(images):
        top, left = gap_px + (i // columns) * cell_h, gap_px + (i % columns) * cell_w
        grid[:, top : top + height, left : left + width] = image
    return grid


def save_png(path: str | Path, image: UInt8[Tensor, "3 H W"]) -> Path:
    """Write one picture as PNG, atomically."""
    from PIL import Image

    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
    return write_atomically(path, lambda file: pixels.save(file, format="PNG"))
