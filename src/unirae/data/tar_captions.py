"""Columns of captions as a user names them, and whether shards have them."""

import math
from collections.abc import Mapping, Sequence

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, DataError

CaptionColumn = str | Mapping[str, float] | None


def caption_columns(column: CaptionColumn) -> tuple[tuple[str, ...] | None, tuple[float, ...]]:
    """The columns that ``column`` names, and how often each is drawn, adding up to 1; (None, (1,)) for what is found.

    Raises:
        ConfigError: If it names none, or a weight is not positive.
    """
    if column is None:
        return None, (1.0,)
    if isinstance(column, str):
        column = {column: 1.0}
    if not column or not all(name.strip() for name in column):
        raise ConfigError(
            f"{argument('source.caption_column', dict(column))} names no column; give a name, or a weight for each of "
            "several"
        )
    for name, weight in column.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ConfigError(
                f"{argument('source.caption_column', dict(column))}: the weight of {name} must be a number above 0, "
                f"not {weight!r}"
            )
    total = sum(column.values())
    return tuple(column), tuple(weight / total for weight in column.values())


def check_found(
    columns: Sequence[str] | None, weights: tuple[float, ...], counts: Sequence[int], *, where: str
) -> tuple[float, ...]:
    """The weights of the columns; none where none was named and no sample has a caption.

    Args:
        counts: how many samples have a caption, for each column.

    Raises:
        DataError: If no sample has a caption in one of the named columns.
    """
    if columns is None:
        return weights if any(counts) else ()
    lacking = [name for name, count in zip(columns, counts, strict=True) if not count]
    if lacking:
        raise DataError(
            f"{where}: no sample has a caption '{lacking[0]}'; captions are members KEY.txt (named txt) and keys of "
            f"members KEY.json: change {argument('source.caption_column')}"
        )
    return weights
