"""Tables of captions beside pictures: ``metadata.jsonl``, ``metadata.csv`` and ``metadata.parquet``.

As in the ``imagefolder`` of Hugging Face the column ``file_name`` names a picture, relative to the table's own folder.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from unirae.core.errors import DataError
from unirae.core.log import get_logger
from unirae.core.names import first_of, on_one_line

log = get_logger(__name__)

FILE_NAME = "file_name"

_NumberedRow = tuple[int, dict[str, Any]]
_HEADER = 0
"""The number of what is no row: all columns of a table that says them first."""


@dataclass(frozen=True)
class Row:
    """A picture's row.

    Attributes:
        number: of its first line, or of the row in a parquet file; both from 1.
        values: by column; of those that were asked for.
    """

    number: int
    file_name: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        path: below the data's folder.
        unit: what rows are counted in: ``line`` or ``row``.
        columns: all that it has, but ``file_name``.
    """

    path: str
    unit: str
    columns: tuple[str, ...]
    rows: list[Row]

    def place(self, row: Row) -> str:
        """A row's place, for messages: ``metadata.csv, line 7``."""
        return f"{on_one_line(self.path)}, {self.unit} {row.number}"


def is_table(name: str) -> bool:
    """Say whether a file of this name is a table of pictures, to Hugging Face and here."""
    return name.lower() in _READERS


def read_table(path: str, content: bytes, wanted: Callable[[str], bool]) -> Table | None:
    """Read a table; None, and a line of the log, where it has no column ``file_name`` and so is something else.

    What is something else is read no further, and may be damaged.

    Args:
        path: below the data's folder; its ending says what it is.
        wanted: whether a column is to be kept.

    Raises:
        DataError: If it cannot be read, or a row names no file.
    """
    reader, unit = _READERS[path.rpartition("/")[2].lower()]
    columns: dict[str, None] = {}
    numbered: list[_NumberedRow] = []
    try:
        for number, row in reader(path, content):
            columns |= dict.fromkeys(row)
            if number != _HEADER:
                kept = {name: value for name, value in row.items() if name == FILE_NAME or wanted(name)}
                numbered.append((number, kept))
            elif FILE_NAME not in row:
                break
    except DataError:
        if not columns or FILE_NAME in columns:
            raise
    if FILE_NAME not in columns:
        said = f"its columns are {first_of(tuple(columns), most=8)}" if columns else "it has no rows"
        log.warning("%s is not read for captions: no column `file_name`; %s", on_one_line(path), said)
        return None
    del columns[FILE_NAME]
    rows = [_row(path, unit, number, row) for number, row in numbered]
    return Table(path=path, unit=unit, columns=tuple(columns), rows=rows)


def decoded(content: bytes, errors: str = "strict") -> str:
    """The text of a file: UTF-8, or UTF-16 where a byte-order mark says so.

    Args:
        errors: what becomes of bytes that are neither, as in ``bytes.decode``.

    Raises:
        UnicodeDecodeError: If it is neither.
    """
    utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if utf_16 else "utf-8-sig", errors)


def _row(path: str, unit: str, number: int, row: dict[str, Any]) -> Row:
    name = row.pop(FILE_NAME, None)
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{on_one_line(path)}, {unit} {number}: no `file_name`; give the picture's path")
    return Row(number=number, file_name=name, values=row)


def _text(path: str, content: bytes) -> tuple[str, DataError | None]:
    """The text, and what is wrong with it: to be raised behind the first line, which says whether anyone cares."""
    try:
        return decoded(content), None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        wrong = DataError(f"{on_one_line(path)}, line {line}: not UTF-8; save the file as UTF-8")
        return decoded(content, "replace"), wrong


def _json_lines(path: str, content: bytes) -> Iterator[_NumberedRow]:
    # not splitlines: JSON may hold other characters that it takes for line ends
    text, damage = _text(path, content)
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            said = f"{on_one_line(path)}, line {number}: not JSON ({reason}); give one object for each line"
            raise damage or DataError(said) from None
        if not isinstance(row, dict):
            raise DataError(
                f'{on_one_line(path)}, line {number}: no object; expected {{"file_name": …, "text": …}}'
            )
        yield number, row
        if damage is not None:
            raise damage


def _comma_separated(path: str, content: bytes) -> Iterator[_NumberedRow]:
    text, damage = _text(path, content)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    header: list[str] = []
    number = 1
    try:
        for fields in reader:
            here, number = number, reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if not header:
                yield _HEADER, dict.fromkeys(field.strip() for field in fields)
                if damage is not None:
                    raise damage
                header = _header(path, here, fields)
            elif len(fields) > len(header):
                raise DataError(
                    f"{on_one_line(path)}, line {here}: {len(fields)} fields under {len(header)} columns; put texts "
                    "with commas in quotes"
                )
            else:
                yield here, dict(zip(header, fields, strict=False))  # a short row lacks its last fields
    except csv.Error as error:
        raise DataError(
            f"{on_one_line(path)}, line {number}: not comma-separated values ({error}); check the quotes"
        ) from None


def _header(path: str, number: int, fields: list[str]) -> list[str]:
    names = [field.strip() for field in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"{on_one_line(path)}, line {number}: two columns are called '{twice[0]}'; rename one"
        )
    return names


def _parquet(path: str, content: bytes) -> Iterator[_NumberedRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        yield _HEADER, dict.fromkeys(file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(f"{on_one_line(path)} is no parquet file that can be read: {reason}") from None


_READERS: dict[str, tuple[Callable[[str, bytes], Iterator[_NumberedRow]], str]] = {
    "metadata.jsonl": (_json_lines, "line"),
    "metadata.csv": (_comma_separated, "line"),
    "metadata.parquet": (_parquet, "row"),
}
