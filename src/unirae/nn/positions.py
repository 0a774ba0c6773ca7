"""Positions of tokens on a (rows, columns) grid: added sin-cos positions, and rotations of queries and keys."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.errors import ConfigError
from unirae.core.precision import full_precision

_BASE = 10_000.0


def sincos_positions(width: int, grid: tuple[int, int]) -> Float[Tensor, "n d"]:
    """2-d sin-cos positions of a (rows, columns) grid, row by row, as MAE lays them out.

    The first half of ``width`` encodes the column, the second the row, each as [sin | cos] of the index over
    10000^(2k / (width / 2)). Columns come first because MAE's meshgrid does so; trained weights expect it.
    """
    if width % 4:
        raise ConfigError(f"width={width} must be divisible by 4 for 2-d sin-cos positions")
    row_angle, column_angle = _angles(width // 4, grid)
    parts = (column_angle.sin(), column_angle.cos(), row_angle.sin(), row_angle.cos())
    return torch.cat(parts, dim=1).float()


def _angles(count: int, grid: tuple[int, int]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Angles of the rows and of the columns, token by token: index · 10000^(−k/count)."""
    rows, columns = grid
    # float64, as the reference: in float32 the angles of a large grid lose their last digits
    frequency = _BASE ** -(torch.arange(count, dtype=torch.float64) / count)
    row_angle = torch.arange(rows, dtype=torch.float64)[:, None] * frequency
    column_angle = torch.arange(columns, dtype=torch.float64)[:, None] * frequency
    return row_angle.repeat_interleave(columns, 0), column_angle.repeat(rows, 1)


class RotaryPositions(nn.Module):
    """Rotary positions in two dimensions (Su et al. 2021): neighbouring pairs of a head's numbers are turned.

    The first half of ``head_width`` is turned by the row, the second by the column; pair k of a half of size m by
    index · 10000^(−2k/m).

    Args:
        num_unturned: tokens behind those of the grid that have no place, and so the angle 0; there may be more.
    """

    def __init__(self, *, head_width: int, grid: tuple[int, int], num_unturned: int = 0) -> None:
        super().__init__()
        if head_width % 4:
            raise ConfigError(f"head_width={head_width} must be divisible by 4 for 2-d rotary positions")
        angle = torch.cat(_angles(head_width // 4, grid), dim=1).repeat_interleave(2, 1)
        angle = torch.cat([angle, angle.new_zeros(num_unturned, head_width)])
        sign = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(head_width // 2)
        self.cos: Tensor
        self.signed_sin: Tensor
        # not persistent: they follow from the grid
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("signed_sin", (angle.sin() * sign).float(), persistent=False)

    def forward(self, x: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b heads n d"]:
        """Rotate each pair: (a, b) → (a·cos − b·sin, b·cos + a·sin), at least float32."""
        cos, signed_sin = self.cos, self.signed_sin
        if (more := x.shape[-2] - len(cos)) > 0:
            cos, signed_sin = F.pad(cos, (0, 0, 0, more), value=1.0), F.pad(signed_sin, (0, 0, 0, more))
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            # as complex numbers it takes half the time; compilers fuse the other form
            turn = torch.complex(cos[:, ::2], signed_sin[:, 1::2])
            pairs = torch.view_as_complex(full_precision(x).unflatten(-1, (-1, 2)))
            return torch.view_as_real(pairs * turn).flatten(-2)
        partners = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        return x * cos + partners * signed_sin
