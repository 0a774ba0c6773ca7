"""Files beside pictures that may hold captions: tables, and for single pictures ``NAME.txt`` and ``NAME.json``."""

import json
import os
import posixpath
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from unirae.core.errors import DataError
from unirae.core.names import on_one_line
from unirae.data.caption_columns import MOST_TEXT_BYTES, TOO_LARGE
from unirae.data.caption_tables import decoded, is_table
from unirae.data.file_kinds import is_hidden


class UnreadableError(Exception):
    """A single picture's file that cannot be read; the message says why."""


class CaptionFiles(Protocol):
    """Files below a folder, or in an archive, that may hold captions."""

    paths: Sequence[str]
    """All for which :func:`may_hold_captions`, in an order that they are read fast in."""

    def read(self, path: str, most: int | None = None) -> bytes:
        """A file's bytes, the first ``most``; ``OSError`` or ``tarfile.TarError`` where it cannot be read."""
        ...

    def is_there(self, path: str) -> bool:
        """Say whether there is any file or folder at a path."""
        ...


def may_hold_captions(name: str) -> bool:
    """Say whether a file of this name may hold captions of pictures beside or below it."""
    return not is_hidden(name) and (is_table(name) or name.lower().endswith((".txt", ".json")))


class FolderCaptionFiles:
    """The files in the folders of pictures, and in the folders around these up to ``root``."""

    def __init__(self, root: Path, pictures: Iterable[str]) -> None:
        self._root = root
        folders = {posixpath.dirname(picture) for picture in pictures}
        for folder in list(folders):
            while folder:
                folder = posixpath.dirname(folder)
                folders.add(folder)
        self.paths: Sequence[str] = sorted(path for folder in folders for path in self._in(folder))

    def _in(self, folder: str) -> list[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                names = [entry.name for entry in entries if may_hold_captions(entry.name) and _is_file(entry)]
        except OSError as error:
            raise DataError(
                f"cannot read {error.filename}: {error.strerror}. Check its permissions."
            ) from error
        return [posixpath.join(folder, name) for name in names]

    def read(self, path: str, most: int | None = None) -> bytes:
        """A file's bytes, the first ``most``."""
        with open(self._root / path, "rb") as file:
            return file.read(-1 if most is None else most)

    def is_there(self, path: str) -> bool:
        """Say whether there is any file or folder at a path; a name that cannot be one's is not there."""
        try:
            return os.path.lexists(self._root / path)
        except ValueError:
            return False


def _is_file(entry: "os.DirEntry[str]") -> bool:
    """Say whether an entry is a file: reading a pipe would never end."""
    try:
        return entry.is_file()
    except OSError:  # links in a circle
        return False


def sidecars(files: CaptionFiles, pictures: Iterable[str]) -> dict[str, str]:
    """The files for single pictures by ``NAME.txt`` and ``NAME.json``, however their endings are written.

    Raises:
        DataError: If two differ in that alone.
    """
    stems = {posixpath.splitext(picture)[0] for picture in pictures}
    found: dict[str, str] = {}
    for path in files.paths:
        stem, ending = posixpath.splitext(path)
        if stem not in stems or is_table(posixpath.basename(path)):
            continue
        if found.setdefault(stem + ending.lower(), path) != path:
            there = on_one_line(found[stem + ending.lower()])
            raise DataError(f"{there} and {on_one_line(path)} belong to the same picture; remove one")
    return found


def read_text(files: CaptionFiles, path: str) -> str:
    """The text of a single picture's file.

    Raises:
        UnreadableError: If it cannot be read, is no UTF-8, or is larger than any caption.
    """
    try:
        content = files.read(path, MOST_TEXT_BYTES + 1)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UnreadableError(getattr(error, "strerror", None) or str(error)) from None
    if len(content) > MOST_TEXT_BYTES:
        raise UnreadableError(TOO_LARGE)
    try:
        return decoded(content)
    except UnicodeDecodeError:
        raise UnreadableError("not UTF-8") from None


def read_keys(files: CaptionFiles, path: str) -> dict[str, Any]:
    """The keys of a single picture's JSON file.

    Raises:
        UnreadableError: If it cannot be read, or holds no object.
    """
    try:
        content = json.loads(read_text(files, path))
    except (ValueError, RecursionError):
        raise UnreadableError("not JSON") from None
    if not isinstance(content, dict):
        raise UnreadableError("no object with keys")
    return content
