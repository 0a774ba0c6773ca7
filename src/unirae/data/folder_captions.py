"""Captions of pictures in folders and tars: from ``metadata.jsonl|csv|parquet``, ``NAME.txt`` and ``NAME.json``.

Tables lie in the pictures' folders or above, and name pictures relative to themselves. Which columns hold captions may
be said. Else it is the one column of the tables whose name is usual for captions (:data:`CAPTION_NAMES`) and which
holds text, or ``NAME.txt``, or without these two such a key of ``NAME.json``. What could mean two things is refused:
docs/data.md.
"""

import logging
import posixpath
import tarfile
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from unirae.core.arguments import argument
from unirae.core.errors import DataError
from unirae.core.log import get_logger, log_once
from unirae.core.names import count_of, first_of, on_one_line, printable
from unirae.data.caption_columns import (
    CAPTION_NAMES,
    TXT,
    CaptionColumn,
    ColumnCaptions,
    Found,
    NoTextError,
    is_textual,
    texts_of,
    ways_to_choose,
    weights_of,
)
from unirae.data.caption_files import CaptionFiles, UnreadableError, read_keys, read_text, sidecars
from unirae.data.caption_tables import Row, Table, is_table, read_table

log = get_logger(__name__)

_Placed = tuple[tuple[str, ...], str]
"""Captions, and the place where they stand."""


class FolderCaptions(ColumnCaptions):
    """The captions of pictures, all read at once.

    Args:
        pictures: paths below the folder called ``where``.
        known: other pictures there, of which tables may speak, too.
        column: which hold the captions, and how often each is drawn; None finds the one.
        several: take all columns that are found, with equal weights, in place of refusing more than one.
        strict: refuse a named column that is nowhere; else it may be one of another split's.

    Raises:
        ConfigError: If ``column`` is no name, and no names with weights.
        DataError: If a table cannot be read, a picture has two rows or two captions of one column, a named column is
            nowhere, or it cannot be told which column holds the captions.
    """

    def __init__(
        self,
        pictures: Sequence[str],
        files: CaptionFiles,
        *,
        where: str,
        known: Collection[str] = (),
        column: CaptionColumn = None,
        several: bool = False,
        strict: bool = True,
    ) -> None:
        weights = weights_of(column)
        reading = _Reading(pictures, files, where, frozenset(known or pictures))
        if weights is None:
            names = reading.find(several=several)
            weights = {name: 1 / len(names) for name in names}
        else:
            reading.take(tuple(weights), strict=strict)
        reading.report(tuple(weights))
        found = [reading.found.get(path, {}) for path in pictures]
        self._found: list[Found] = [tuple(one.get(name, ((), ""))[0] for name in weights) for one in found]
        widths = zip(weights, zip(*self._found, strict=True), strict=True) if weights else ()
        super().__init__(weights, {name: max(map(len, texts)) for name, texts in widths})
        self.files = len(reading.used)
        """Number of files that captions were read from."""

    def found(self, index: int) -> Found:
        """The captions of a picture that are there, by columns."""
        return self._found[index]


class _Reading:
    """A reading of the captions of some pictures.

    Attributes:
        found: captions by picture and column.
        used: the files that were read.
    """

    def __init__(
        self, pictures: Sequence[str], files: CaptionFiles, where: str, known: frozenset[str]
    ) -> None:
        self._pictures, self._files, self._where, self._known = pictures, files, printable(where), known
        self._beside = sidecars(files, pictures)
        self._unreadable: list[tuple[str, str]] = []
        self._tables: list[Table] = []
        self._json_keys: set[str] = set()
        self.found: dict[str, dict[str, _Placed]] = {}
        self.used: dict[str, None] = {}

    def find(self, *, several: bool) -> list[str]:
        """Read the captions that are found, and say of which columns."""
        rows = self._rows_of_tables(CAPTION_NAMES)
        names = [
            name
            for name in CAPTION_NAMES
            if any(is_textual(row.values.get(name)) for _, row in rows.values())
        ]
        self._take_rows(rows, names)
        if self._take_txt():
            if names and not several:
                raise DataError(
                    f"{self._where}: captions stand in {self._tables_text()} (column '{names[0]}') and in files "
                    f"NAME.txt beside the pictures; {ways_to_choose([names[0], TXT])}"
                )
            names = [*(name for name in names if name != TXT), TXT]
        if not names:
            keys = self._read_json(CAPTION_NAMES)
            names = [
                name for name in CAPTION_NAMES if any(is_textual(found.get(name)) for found in keys.values())
            ]
            self._take_keys(keys, names)
            if several and not names:
                self._unreadable.clear()  # files of something else; nobody has asked for captions
        if len(names) > 1 and not several:
            raise DataError(
                f"{self._where}: captions stand under several names ({', '.join(names)}); {ways_to_choose(names)}"
            )
        return names

    def take(self, names: Sequence[str], *, strict: bool) -> None:
        """Read the captions of columns, wherever these are.

        Raises:
            DataError: If a column is nowhere, and ``strict``.
        """
        self._take_rows(self._rows_of_tables(names), names)
        if TXT in names:
            self._take_txt()
        self._take_keys(self._read_json(names), names)
        there = self._json_keys.union(*(table.columns for table in self._tables))
        there |= {TXT} if any(path.lower().endswith(".txt") for path in self._beside.values()) else set()
        lacking = [name for name in names if name not in there]
        if strict and lacking:
            seen = f"there is {first_of(sorted(there), most=8)}" if there else "there is none at all"
            raise DataError(
                f"{self._where}: no picture has a caption '{on_one_line(lacking[0])}', neither as a column of a "
                f"metadata file nor as a key of NAME.json; {seen}: choose another {argument('source.caption_column')}"
            )

    def report(self, names: Sequence[str]) -> None:
        """Log where the captions stand, and which files could not be read."""
        if self.used:
            files = f"{count_of(len(self.used), 'file')}, {on_one_line(next(iter(self.used)))} first"
            line = f"{self._where}: captions '{', '.join(names)}' of {files}"
            log_once(log, logging.INFO, line)
        if self._unreadable:
            path, reason = self._unreadable[0]
            log.warning(
                "%s: the captions of %s cannot be read and count as missing: %s (%s)%s",
                self._where,
                count_of(len(self._unreadable), "file"),
                on_one_line(path),
                reason,
                " first" if len(self._unreadable) > 1 else "",
            )

    def _rows_of_tables(self, names: Collection[str]) -> dict[str, tuple[Table, Row]]:
        """The row of each picture that has one, of the tables with at least one of the columns."""
        mine, meant = frozenset(self._pictures), _Meant(self._known)
        rows: dict[str, tuple[Table, Row]] = {}
        for path in self._files.paths:
            if not is_table(posixpath.basename(path)):
                continue
            table = self._read_table(path, names)
            if table is None:
                continue
            self._tables.append(table)
            if not any(name in names for name in table.columns):
                continue
            gone: list[Row] = []
            for row in table.rows:
                picture = meant(posixpath.dirname(path), row.file_name)
                if picture in mine:
                    if picture in rows:
                        other, before = rows[picture]
                        raise DataError(
                            f"{self._where}: {on_one_line(picture)} has two rows, {other.place(before)} and "
                            f"{table.place(row)}; keep one (several captions: a column for each, or a list in one)"
                        )
                    rows[picture] = table, row
                elif picture not in self._known and not self._is_there(picture):
                    gone.append(row)
            self._say_gone(table, gone)
        return rows

    def _read_table(self, path: str, names: Collection[str]) -> Table | None:
        try:
            return read_table(path, self._files.read(path), lambda name: name in names)
        except DataError as error:
            raise DataError(f"{self._where}: {error}") from None
        except (OSError, EOFError, tarfile.TarError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self._where}: cannot read {on_one_line(path)}: {reason}") from error

    def _is_there(self, path: str) -> bool:
        outside = path.startswith(("/", "../")) or path in (".", "..")
        return not outside and self._files.is_there(path)

    def _say_gone(self, table: Table, gone: list[Row]) -> None:
        if gone:
            names = first_of([row.file_name for row in gone])
            rows = "1 row names a file that is" if len(gone) == 1 else f"{len(gone)} rows name files that are"
            log_once(log, logging.WARNING, f"{on_one_line(table.path)}: {rows} not there ({names})")

    def _take_rows(self, rows: Mapping[str, tuple[Table, Row]], names: Sequence[str]) -> None:
        for picture, (table, row) in rows.items():
            for name in names:
                try:
                    texts = texts_of(row.values.get(name))
                except NoTextError as error:
                    raise DataError(
                        f"{self._where}: {table.place(row)}: column '{on_one_line(name)}' holds {error}"
                    ) from None
                self._add(picture, name, texts, table.path, table.place(row))

    def _take_txt(self) -> bool:
        """Note the captions of ``NAME.txt``; says whether there are any."""
        some = False
        for picture in self._pictures:
            path = self._beside.get(_beside(picture, ".txt"))
            if path is None:
                continue
            try:
                texts = texts_of(read_text(self._files, path))
            except (UnreadableError, NoTextError) as error:
                self._unreadable.append((path, str(error)))
            else:
                self._add(picture, TXT, texts, path)
                some = some or bool(texts)
        return some

    def _read_json(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """The values under these keys in the pictures' JSON files, which may hold much else."""
        found: dict[str, dict[str, Any]] = {}
        for picture in self._pictures:
            path = self._beside.get(_beside(picture, ".json"))
            if path is None:
                continue
            try:
                keys = read_keys(self._files, path)
            except UnreadableError as error:
                self._unreadable.append((path, str(error)))
            else:
                self._json_keys |= keys.keys()
                found[picture] = {name: keys[name] for name in names if name in keys}
        return found

    def _take_keys(self, keys: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> None:
        for picture, found in keys.items():
            path = self._beside[_beside(picture, ".json")]
            for name in names:
                try:
                    self._add(picture, name, texts_of(found.get(name)), path)
                except NoTextError as error:
                    self._unreadable.append((path, f"'{on_one_line(name)}' holds {error}"))

    def _add(
        self, picture: str, name: str, texts: tuple[str, ...], file: str, place: str | None = None
    ) -> None:
        """Note captions of a picture, unless other ones stand elsewhere under the same name."""
        if not texts:
            return
        place = place or on_one_line(file)
        before = self.found.setdefault(picture, {}).setdefault(name, (texts, place))
        self.used[file] = None
        if before[0] != texts:
            raise DataError(
                f"{self._where}: {on_one_line(picture)} has two captions '{on_one_line(name)}', in "
                f"{before[1]} and in {place}; keep one"
            )

    def _tables_text(self) -> str:
        return first_of([table.path for table in self._tables])


class _Meant:
    """Finds the picture that a table means: also by a path of Windows, and with accents that are stored otherwise."""

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known

    def __call__(self, folder: str, name: str) -> str:
        path = posixpath.normpath(posixpath.join(folder, name))
        if path in self._known:
            return path
        forms = [path, path.replace("\\", "/")]
        for form in forms + [unicodedata.normalize(kind, path) for kind in ("NFC", "NFD") for path in forms]:
            if (plain := posixpath.normpath(form)) in self._known:
                return plain
        return path


def _beside(picture: str, ending: str) -> str:
    return posixpath.splitext(picture)[0] + ending
