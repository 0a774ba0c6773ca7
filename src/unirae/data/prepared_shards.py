"""The shards of a conversion by ``prepare_data``: each a file, and a record of the files that it was made from.

A record comes after its shard and says of every file its stamp and the hash of its contents, so that a later run knows
whether the shard still holds what the input holds. What is in the file, a :class:`Format` says.
"""

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, ClassVar, Protocol

from unirae.core.errors import UserError
from unirae.core.io import read_json, write_atomically
from unirae.core.names import printable
from unirae.data.archive import ImageFiles, Stamp
from unirae.data.decode import BadImageError, read_rgb
from unirae.data.listing import Entry
from unirae.data.prepared_captions import PreparedCaptions

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

INPUTS = "inputs"
"""The folder of the records."""


@dataclass
class FileRecord:
    """A file as it was when it was read.

    Attributes:
        stamp: None where it could not be asked.
        sha256: of its bytes; None where they could not be read.
        problem: why it is not a readable image; None if it is one.
        captions_sha256: of its captions; None where it has none.
    """

    path: str
    label: int
    stamp: Stamp | None
    sha256: str | None
    problem: str | None
    captions_sha256: str | None = None

    def still_holds(self, files: ImageFiles) -> bool:
        """Say whether the file has these contents still; reads them only where its stamp differs, and notes that.

        One that was not readable is tried again: a reader of its format may be installed now.
        """
        now = files.stamp(self.path)
        if now == self.stamp and self.problem is None:
            return True
        content = _read(files, self.path)
        if self.problem is not None:
            sha256, problem = _examine(content)
            if problem is None or sha256 != self.sha256:
                return False
        elif isinstance(content, Exception) or hashlib.sha256(content).hexdigest() != self.sha256:
            return False
        self.stamp = now
        return True


@dataclass(frozen=True)
class ShardRecord:
    """A complete shard: its classes, its files, and its columns of captions."""

    class_names: list[str]
    files: list[FileRecord]
    caption_columns: dict[str, bool] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of readable images."""
        return sum(file.problem is None for file in self.files)

    @classmethod
    def read(cls, path: Path) -> "ShardRecord | None":
        """A record; None where there is none, or none that this version understands."""
        try:
            content = read_json(path)
            files = [FileRecord(**file) for file in content["files"]]
            return cls(content["class_names"], files, content.get("caption_columns", {}))
        except (UserError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Write the record, a line for each file."""
        lines = ",\n".join(json.dumps(asdict(file)) for file in self.files)
        head = json.dumps({"class_names": self.class_names, "caption_columns": self.caption_columns})
        text = f'{head[:-1]}, "files": [\n{lines}\n]}}\n'
        write_atomically(path, lambda file: file.write(text.encode()))


@dataclass(frozen=True)
class Shard:
    """A run of files of one split that becomes one file of the output."""

    root: Path
    split: str
    name: str
    entries: tuple[Entry, ...]
    suffix: str
    first: int
    """The number of its first file in the split."""

    @property
    def data(self) -> Path:
        """Path of that file."""
        return self.root / self.split / f"{self.name}{self.suffix}"

    @property
    def record(self) -> Path:
        """Path of the shard's record, whose existence says that the shard is complete."""
        return self.root / INPUTS / f"{self.split}-{self.name}.json"

    def is_complete(
        self, files: ImageFiles, class_names: tuple[str, ...], captions: PreparedCaptions
    ) -> bool:
        """Say whether the shard is written, of just these files and captions, and none has changed since."""
        record = ShardRecord.read(self.record)
        return (
            record is not None
            and record.class_names == list(class_names)
            and record.caption_columns == captions.columns
            and [(file.path, file.label, file.captions_sha256) for file in record.files]
            == [(e.path, e.label, captions.sha256(e.path)) for e in self.entries]
            and (record.rows == 0 or self.data.exists())
            and all(file.still_holds(files) for file in record.files)
        )


class Format(Protocol):
    """A layout of the output.

    Attributes:
        name: of the format, as the user knows it.
        suffix: of its shards.
        splits: the folders of the training and the validation split.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    splits: ClassVar[tuple[str, str]]

    def shard_name(self, number: int, count: int) -> str:
        """The name of one of a split's ``count`` shards, without its suffix."""
        ...

    def write(
        self,
        file: IO[bytes],
        *,
        shard: Shard,
        rows: Sequence[tuple[int, FileRecord, bytes]],
        class_names: tuple[str, ...],
        captions: PreparedCaptions,
    ) -> None:
        """Write a shard.

        Args:
            rows: its readable images: the number in the split, the record, and the bytes.
        """
        ...

    def finish(
        self,
        folder: Path,
        *,
        records: dict[Shard, ShardRecord],
        class_names: tuple[str, ...],
        captions: PreparedCaptions,
    ) -> None:
        """Write what belongs to the folder as a whole; the shards are there."""
        ...


def cut(splits: dict[str, list[Entry]], root: Path, size: int, layout: Format) -> list[Shard]:
    """The shards of all splits, ``size`` files in each."""
    return [
        Shard(
            root=root,
            split=split,
            name=layout.shard_name(number, -(-len(entries) // size)),
            entries=tuple(entries[first : first + size]),
            suffix=layout.suffix,
            first=first,
        )
        for split, entries in splits.items()
        for number, first in enumerate(range(0, len(entries), size))
    ]


def write_shards(
    files: ImageFiles,
    shards: list[Shard],
    class_names: tuple[str, ...],
    captions: PreparedCaptions,
    layout: Format,
    *,
    num_workers: int,
    progress: Progress,
) -> None:
    """Write the shards that are not complete yet."""
    total, done = sum(len(shard.entries) for shard in shards), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    with ThreadPoolExecutor(num_workers) as pool:  # Pillow decodes without holding the interpreter's lock
        for shard in shards:
            if shard.is_complete(files, class_names, captions):
                advance(len(shard.entries))
            else:
                _write_shard(files, shard, class_names, captions, layout, pool, advance)


def rows_sha256(class_names: tuple[str, ...], records: Iterable[ShardRecord]) -> str:
    """Hash of the rows of a split: names, labels, classes, contents and captions, whatever the shards are."""
    digest = hashlib.sha256(json.dumps(class_names).encode())
    for record in records:
        for file in record.files:
            if file.problem is None:
                captions = [] if file.captions_sha256 is None else [file.captions_sha256]
                digest.update(json.dumps([file.path, file.label, file.sha256, *captions]).encode())
    return digest.hexdigest()


def _write_shard(
    files: ImageFiles,
    shard: Shard,
    class_names: tuple[str, ...],
    captions: PreparedCaptions,
    layout: Format,
    pool: Executor,
    advance: Callable[[int], None],
) -> None:
    """Read, check and store a shard's files; the record comes last."""
    shard.record.unlink(missing_ok=True)
    # before reading: a change meanwhile will show
    stamps = [files.stamp(entry.path) for entry in shard.entries]
    contents = [_read(files, entry.path) for entry in shard.entries]
    record = ShardRecord(list(class_names), [], captions.columns)
    for entry, stamp, (sha256, problem) in zip(
        shard.entries, stamps, pool.map(_examine, contents), strict=True
    ):
        told = captions.sha256(entry.path)
        record.files.append(FileRecord(entry.path, entry.label, stamp, sha256, problem, told))
        advance(1)
    rows = [
        (shard.first + i, file, content)
        for i, (file, content) in enumerate(zip(record.files, contents, strict=True))
        if file.problem is None and isinstance(content, bytes)
    ]
    if rows:
        write = partial(layout.write, shard=shard, rows=rows, class_names=class_names, captions=captions)
        write_atomically(shard.data, write)
    else:
        shard.data.unlink(missing_ok=True)
    record.write(shard.record)


def _read(files: ImageFiles, path: str) -> bytes | Exception:
    try:
        return files.read(path)
    except (OSError, EOFError, tarfile.TarError) as error:
        return error


def _examine(content: bytes | Exception) -> tuple[str | None, str | None]:
    """The hash of a file's bytes, and why they are not a readable image; None if they are one."""
    if isinstance(content, Exception):
        return None, f"{type(content).__name__}: {printable(str(content))}"
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        read_rgb(content)
    except BadImageError as error:
        return sha256, str(error)
    return sha256, None
