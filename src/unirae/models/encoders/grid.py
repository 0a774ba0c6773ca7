"""Grids of tokens: sizes in pixels that split into patches, and tokens laid out row by row."""

from jaxtyping import Float
from torch import Tensor

from unirae.core.errors import ConfigError


def check_divisible(name: str, value: int, patch_size: int) -> None:
    """Refuse a length in pixels that does not split into patches, naming the nearest ones that do."""
    if value > 0 and value % patch_size == 0:
        return
    below = value // patch_size * patch_size
    nearest = ", ".join(str(size) for size in (below, below + patch_size) if size > 0)
    raise ConfigError(
        f"{name}={value} must be divisible by patch_size={patch_size}; nearest valid: {nearest}"
    )


def as_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """A side or (height, width) in pixels as (height, width)."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def to_grid(tokens: Float[Tensor, "b n c"], grid: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """Drop the tokens before those of patches (class, registers) and lay the rest out row by row."""
    rows, columns = grid
    if tokens.ndim != 3 or tokens.shape[1] < rows * columns:
        raise ConfigError(
            f"the encoder gave {tuple(tokens.shape)} for a {rows}×{columns} grid: it is not a plain ViT "
            "(one token per patch, class and register tokens in front)"
        )
    return tokens[:, -rows * columns :].transpose(1, 2).unflatten(2, grid)
