"""The captions of tar shards: members ``KEY.txt`` and keys of members ``KEY.json``, from the shards' indexes."""

from collections.abc import Callable, Sequence

from unirae.core.arguments import argument
from unirae.core.errors import DataError
from unirae.data.caption_columns import CaptionColumn, ColumnCaptions, Found, weights_of
from unirae.data.tar_index import Columns, ShardIndex

FOUND = "found"
"""The name of the one column where none was named."""


class TarCaptions(ColumnCaptions):
    """The captions of samples, read from the memory-mapped indexes one by one.

    Args:
        indexes: those of both splits, made for :func:`columns_of` this ``column``; one split may lack captions.
        place: the index and the row of a sample, by its number.
        column: which hold the captions, and how often each is drawn: a key of ``KEY.json``; ``txt`` is the member
            ``KEY.txt``, and that key where a sample has no such member. None takes ``KEY.txt``, and where a sample has
            none, such a key of ``KEY.json`` as is usual.

    Raises:
        ConfigError: If ``column`` is no name, and no names with weights.
        DataError: If no sample has a caption in a named column.
    """

    def __init__(
        self,
        indexes: Sequence[ShardIndex],
        place: Callable[[int], tuple[ShardIndex, int]],
        *,
        where: str,
        column: CaptionColumn = None,
    ) -> None:
        self._place = place
        widths = [
            max(of_shards) for of_shards in zip(*(index.caption_widths() for index in indexes), strict=True)
        ]
        weights = weights_of(column)
        if weights is None:
            weights = {FOUND: 1.0} if any(widths) else {}
        widths = widths[: len(weights)]  # without captions there is a width, and no column
        for name, width in zip(weights, widths, strict=True):
            if not width:
                raise DataError(
                    f"{where}: no sample has a caption '{name}'. A column is a key of members KEY.json, and txt also "
                    f"the members KEY.txt: change {argument('source.caption_column')}"
                )
        super().__init__(weights, dict(zip(weights, widths, strict=True)))

    def found(self, index: int) -> Found:
        """The captions of a sample that are there, by columns."""
        if not self.columns:
            return ()
        shard, row = self._place(index)
        return shard.captions(row)


def columns_of(column: CaptionColumn) -> Columns:
    """The columns that an index holds for this choice.

    Raises:
        ConfigError: If ``column`` is no name, and no names with weights.
    """
    weights = weights_of(column)
    return None if weights is None else tuple(weights)
