"""The caption columns of a Hugging Face data set: of texts, or of lists of texts (COCO has five captions in a row)."""

from typing import TYPE_CHECKING

from unirae.core.arguments import argument
from unirae.core.errors import DataError
from unirae.core.names import first_of
from unirae.data.caption_columns import (
    CAPTION_NAMES,
    CaptionColumn,
    ColumnCaptions,
    Found,
    NoTextError,
    texts_of,
    ways_to_choose,
    weights_of,
)

if TYPE_CHECKING:
    from datasets import Dataset


class HFCaptions(ColumnCaptions):
    """The captions of rows, read from the memory-mapped table one by one.

    Args:
        column: which hold the captions, and how often each is drawn; None finds the one whose name is usual for
            captions and which holds text.

    Raises:
        ConfigError: If ``column`` is no name, and no names with weights.
        DataError: If a named column is not there or holds no text, or if several would be found.
    """

    def __init__(self, rows: "Dataset", *, where: str, column: CaptionColumn = None) -> None:
        weights = weights_of(column)
        if weights is None:
            name = _find_caption_column(rows, where)
            weights = {} if name is None else {name: 1.0}
        for name in weights:
            if name not in rows.column_names:
                there = first_of(rows.column_names, most=12)
                raise DataError(f"{where} has no column '{name}' for captions; its columns are {there}")
            if not _is_text(rows, name):
                raise DataError(
                    f"caption column '{name}' of {where} must hold texts or lists of texts, not {rows.features[name]}; "
                    f"choose another {argument('source.caption_column')}"
                )
        self._where, self._rows = where, rows.select_columns(list(weights)) if weights else None
        super().__init__(weights, {name: _width(rows, name) for name in weights})

    def found(self, index: int) -> Found:
        """The captions of a row that are there, by columns.

        Raises:
            DataError: If a text cannot be written as UTF-8.
        """
        if self._rows is None:
            return ()
        chosen = self._rows._indices
        row = index if chosen is None else chosen.column(0)[index].as_py()
        return tuple(self._texts(name, row, index) for name in self.columns)

    def _texts(self, name: str, row: int, index: int) -> tuple[str, ...]:
        assert self._rows is not None
        try:
            return texts_of(self._rows.data.column(name)[row].as_py())
        except NoTextError as error:
            raise DataError(f"{self._where}, row {index}: column '{name}' holds {error}") from None
        except UnicodeDecodeError:
            raise DataError(f"{self._where}, row {index}: column '{name}' is not UTF-8") from None


def _find_caption_column(rows: "Dataset", where: str) -> str | None:
    """The column of captions; None where there is none.

    Raises:
        DataError: If there are several.
    """
    found = [name for name in CAPTION_NAMES if name in rows.column_names and _is_text(rows, name)]
    if len(found) > 1:
        raise DataError(
            f"{where}: captions stand in several columns ({', '.join(found)}); {ways_to_choose(found)}"
        )
    return found[0] if found else None


def _is_text(rows: "Dataset", name: str) -> bool:
    import pyarrow.types as types

    kind = rows.data.column(name).type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind)


def _width(rows: "Dataset", name: str) -> int:
    """The largest number of texts in a row; 1 for a column of texts."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    stored = rows.data.column(name)
    if types.is_string(stored.type) or types.is_large_string(stored.type):
        return 1
    if rows._indices is not None:
        stored = stored.take(rows._indices.column(0))
    return pc.max(pc.list_value_length(stored)).as_py() or 1  # pyright: ignore[reportAttributeAccessIssue]
