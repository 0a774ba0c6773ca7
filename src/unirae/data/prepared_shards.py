"""The shards of a conversion by ``prepare_data``: each an Arrow file, and a record of the files that it was made from.

A record comes after its shard and says of every file its stamp and the hash of its contents, so that a later run knows
whether the shard still holds what the input holds.

The files are those of a Hugging Face ``save_to_disk`` folder, written piece by piece: ``Dataset.save_to_disk`` itself
wants the whole dataset as Arrow files first and then copies it.
"""

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from unirae.core.errors import UserError
from unirae.core.io import read_json, write_atomically, write_json
from unirae.core.names import printable
from unirae.data.archive import ImageFiles, Stamp
from unirae.data.decode import BadImageError, read_rgb
from unirae.data.listing import Entry
from unirae.data.prepared_captions import PreparedCaptions

if TYPE_CHECKING:
    from datasets import Features

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

INPUTS = "inputs"
"""The folder of the records."""
_ROWS_PER_BATCH = 100  # as HF datasets groups images: small enough for random access


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
    """A run of files of one split that becomes one Arrow file."""

    root: Path
    split: str
    name: str
    entries: tuple[Entry, ...]

    @property
    def data(self) -> Path:
        """Path of the Arrow file."""
        return self.root / self.split / f"{self.name}.arrow"

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


def cut(splits: dict[str, list[Entry]], root: Path, size: int) -> list[Shard]:
    """The shards of all splits, ``size`` files in each."""
    shards = []
    for split, entries in splits.items():
        count = -(-len(entries) // size)
        shards += [
            Shard(root, split, f"data-{i:05d}-of-{count:05d}", tuple(entries[i * size : (i + 1) * size]))
            for i in range(count)
        ]
    return shards


def write_shards(
    files: ImageFiles,
    shards: list[Shard],
    class_names: tuple[str, ...],
    captions: PreparedCaptions,
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
                _write_shard(files, shard, class_names, captions, pool, advance)


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
        {
            "image": {"bytes": content, "path": printable(file.path)},
            "label": file.label,
            **captions.row(file.path),
        }
        for file, content in zip(record.files, contents, strict=True)
        if file.problem is None
    ]
    features: Features = features_for(class_names, captions)
    if rows:
        write_atomically(shard.data, partial(write_arrow, rows=rows, features=features))
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


def features_for(class_names: tuple[str, ...], captions: PreparedCaptions) -> "Features":
    """An image column and, where there are classes, a label column; then those of the captions."""
    from datasets import ClassLabel, Features, Image

    columns: dict[str, Any] = {"image": Image()}
    if class_names:
        columns["label"] = ClassLabel(names=list(class_names))
    return Features({**columns, **captions.features()})


def write_arrow(file: IO[bytes], *, rows: Sequence[dict[str, Any]], features: "Features") -> None:
    """Rows to an Arrow stream."""
    import pyarrow as pa

    schema = features.arrow_schema
    with pa.ipc.new_stream(file, schema) as stream:
        for start in range(0, len(rows), _ROWS_PER_BATCH):
            stream.write_batch(
                pa.RecordBatch.from_pylist(list(rows[start : start + _ROWS_PER_BATCH]), schema)
            )


def write_split_metadata(
    folder: Path, split: str, files: list[str], fingerprint: str, features: "Features"
) -> None:
    """Write ``state.json`` and ``dataset_info.json`` as ``Dataset.save_to_disk`` does."""
    from datasets import DatasetInfo

    state = {
        "_data_files": [{"filename": name} for name in files],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    write_json(folder / "state.json", state)
    DatasetInfo(features=features).write_to_directory(str(folder))
