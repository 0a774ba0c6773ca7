"""Where a token lies: sin-cos positions of a grid."""

import torch
from jaxtyping import Float
from torch import Tensor

from unirae.core.errors import ConfigError


def sincos_positions(width: int, grid: tuple[int, int]) -> Float[Tensor, "n d"]:
    """2-d sin-cos positions of a (rows, columns) grid, row by row, as MAE lays them out.

    The first half of ``width`` encodes the column, the second the row, each as [sin | cos] of the index over
    10000^(2k / (width / 2)). Columns come first because MAE's meshgrid does so; trained weights expect it.
    """
    if width % 4:
        raise ConfigError(f"width={width} must be divisible by 4 for 2-d sin-cos positions")
    rows, columns = grid
    # float64, as the reference: in float32 the angles of a large grid lose their last digits
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    column_angle = (torch.arange(columns, dtype=torch.float64)[:, None] * frequency).repeat(rows, 1)
    row_angle = (torch.arange(rows, dtype=torch.float64)[:, None] * frequency).repeat_interleave(columns, 0)
    parts = (column_angle.sin(), column_angle.cos(), row_angle.sin(), row_angle.cos())
    return torch.cat(parts, dim=1).float()
