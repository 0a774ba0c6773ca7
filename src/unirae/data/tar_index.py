"""Indexes of tar shards: where each sample's picture lies, with its captions and label, kept in a file for each shard.

A shard is read through once. Its index is an Arrow file, mapped into memory, so that processes share it. It lies in the
hidden folder ``.unirae_index`` beside the shard, or where that cannot be written, in the cache; it is of the shard's
name, size and time of change, and is made anew where one of them is another.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unirae.core.cache import cache_dir
from unirae.core.errors import DataError, UserError
from unirae.core.file_lock import BusyError, locked
from unirae.core.io import short_code, write_atomically
from unirae.core.log import get_logger
from unirae.core.names import count_of, on_one_line, printable
from unirae.data.caption_columns import Found as Texts
from unirae.data.tar_members import TarReader, compression_of
from unirae.data.tar_samples import Found, Label, Samples, samples_of

if TYPE_CHECKING:
    from pyarrow import RecordBatch

log = get_logger(__name__)

FOLDER = ".unirae_index"
_VERSION = 2
"""Raised where the same shard gives another index than before."""
_THREADS = 4
"""Shards that are indexed at once: a network's disk answers several as fast as one."""
_WAIT_S = 0.2
_PATIENCE_S = 600.0
"""How long another process may take to index a shard before this one does so, too, in its memory."""

_FIRST_CAPTION = 5
"""The index's first column of captions."""

Columns = tuple[str, ...] | None


@dataclass(frozen=True)
class Shard:
    """A tar, and its name below the data's folder."""

    name: str
    path: Path

    def stamp(self) -> dict[str, Any]:
        """What tells that the tar is still the one that was indexed.

        Raises:
            DataError: If there is no such file.
        """
        try:
            found = self.path.stat()
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from None
        return {"name": printable(self.path.name), "size": found.st_size, "mtime_ns": found.st_mtime_ns}


class ShardIndex:
    """The samples of a shard, in the order of their pictures.

    Attributes:
        offsets, sizes: of the pictures, in bytes.
        found: what else is in the shard.
    """

    def __init__(self, shard: Shard, batch: "RecordBatch"):
        about = batch.schema.metadata or {}
        self.shard, self._batch = shard, batch
        self.size, self.mtime_ns = int(about[b"size"]), int(about[b"mtime_ns"])
        self.offsets: np.ndarray = batch.column("offset").to_numpy()
        self.sizes: np.ndarray = batch.column("size").to_numpy()
        self.found = Found.from_json(about[b"found"].decode()).of(shard.name)
        self._captions = [batch.column(i) for i in range(_FIRST_CAPTION, batch.num_columns)]

    def __len__(self) -> int:
        """Number of samples."""
        return self._batch.num_rows

    def key(self, row: int) -> str:
        """The key of a sample; bytes that are not UTF-8 as surrogates."""
        return self._batch.column("key")[row].as_py().decode(errors="surrogateescape")

    def keys(self) -> list[str]:
        """The keys of all samples."""
        return [key.decode(errors="surrogateescape") for key in self._batch.column("key").to_pylist()]

    def labels(self) -> list[Label]:
        """Each sample's class, by number or name; None without one."""
        names, numbers = self._batch.column("class_name"), self._batch.column("class_number")
        if names.null_count == len(names):
            return numbers.to_pylist()
        return [b if a is None else a for a, b in zip(names.to_pylist(), numbers.to_pylist(), strict=True)]

    def captions(self, row: int) -> Texts:
        """A sample's captions, for each column those that are there."""
        return tuple(tuple(column[row].as_py()) for column in self._captions)

    def caption_widths(self) -> list[int]:
        """The largest number of captions that a sample has, for each column."""
        return [int(np.diff(column.offsets.to_numpy()).max(initial=0)) for column in self._captions]

    def captioned(self) -> int:
        """How many samples have a caption."""
        counts = [np.diff(column.offsets.to_numpy()) for column in self._captions]
        return int(np.any(counts, axis=0).sum())


def open_indexes(shards: Sequence[Shard], *, columns: Columns, where: str) -> list[ShardIndex]:
    """The indexes of shards, from where they are kept, else made now; processes at once share the work.

    Args:
        columns: those of :func:`~unirae.data.tar_samples.samples_of`.
        where: the data are called, for messages.

    Raises:
        DataError: If a shard is missing or compressed, or has two pictures of one key.
    """
    found = {shard: _kept(shard, columns) for shard in shards}
    lacking = [shard for shard, index in found.items() if index is None]
    if lacking:
        log.info("%s: indexing %s", on_one_line(where), count_of(len(lacking), "shard"))
        found |= zip(
            lacking, _in_threads(lambda shard: _index(shard, columns, wait=False), lacking), strict=True
        )
        busy = [shard for shard in lacking if found[shard] is None]
        found |= {shard: _index(shard, columns, wait=True) for shard in busy}
    return [index for index in found.values() if index is not None]


def _in_threads(
    work: Callable[[Shard], ShardIndex | None], shards: Sequence[Shard]
) -> list[ShardIndex | None]:
    pool = ThreadPoolExecutor(_THREADS)
    try:
        return list(pool.map(work, shards))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt waits for shards that are being read, not for all


def _index(shard: Shard, columns: Columns, *, wait: bool) -> ShardIndex | None:
    """Index a shard and keep that; None where another process does it and there is no waiting for it."""
    busy_until = time.monotonic() + _PATIENCE_S
    for place in _places(shard, columns):
        while True:
            try:
                with locked(place.with_name(f"{place.name}.lock"), busy="HOLDER"):
                    return _kept(shard, columns) or _made(shard, columns, place)
            except BusyError:
                if not wait:
                    return None
                if time.monotonic() > busy_until:
                    return _made(shard, columns, None)
                time.sleep(_WAIT_S)
            except DataError:
                raise
            except UserError:  # this place cannot be written to
                break
    log.warning(
        "%s: its index is kept nowhere and will be made again next time; set UNIRAE_CACHE_DIR to a folder that can be "
        "written to",
        on_one_line(shard.name),
    )
    return _made(shard, columns, None)


def _made(shard: Shard, columns: Columns, place: Path | None) -> ShardIndex:
    """Read a shard's headers; write the index to ``place``.

    Raises:
        DataError: If the shard cannot be opened, or is compressed, or has two pictures of one key.
        UserError: If ``place`` cannot be written to.
    """
    batch = _read(shard, columns)
    index = ShardIndex(shard, batch)
    # without samples it may be no shard at all; and what could not be read now may be readable the next time
    if place is None or len(index) == 0 or index.found.unread:
        return index
    write_atomically(place, lambda file: _write(file, batch))
    return _kept(shard, columns) or index


def _read(shard: Shard, columns: Columns) -> "RecordBatch":
    stamp = shard.stamp()  # before reading: a change meanwhile will show
    try:
        descriptor = os.open(shard.path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"cannot read {shard.path}: {error.strerror or error}") from None
    try:
        reader = TarReader(descriptor)
        with suppress(OSError):  # which reading on will meet again
            refuse_compressed(shard.path, reader.read(0, 8))
        samples = samples_of(reader, stamp["size"], shard=shard.name, columns=columns)
    finally:
        os.close(descriptor)
    return _batch(samples, {**stamp, **_wanted(columns)})


def refuse_compressed(path: Path, start: bytes) -> None:
    """Refuse a file that begins as compressed ones do, by what to do.

    Raises:
        DataError: If it does.
    """
    program = compression_of(start)
    if program is not None:
        raise DataError(
            f"{path} is compressed by {program}, so that no picture in it can be had by number; decompress it once "
            f"({program} -d; JPEG and PNG files hardly become larger) and give the .tar"
        )


def _wanted(columns: Columns) -> dict[str, Any]:
    return {"version": _VERSION, "columns": short_code(columns)}


def _batch(samples: Samples, about: dict[str, Any]) -> "RecordBatch":
    import pyarrow as pa

    labels = samples.labels
    captions = [[texts[i] for texts in samples.captions] for i in range(samples.columns)]
    names = [
        "key",
        "offset",
        "size",
        "class_number",
        "class_name",
        *(f"caption{i}" for i in range(len(captions))),
    ]
    columns = [
        pa.array([key.encode(errors="surrogateescape") for key in samples.keys], pa.large_binary()),
        pa.array(samples.offsets, pa.int64()),
        pa.array(samples.sizes, pa.int64()),
        pa.array([label if isinstance(label, int) else None for label in labels], pa.int64()),
        pa.array(
            [_encodable(label) if isinstance(label, str) else None for label in labels], pa.large_string()
        ),
        *(pa.array(texts, pa.large_list(pa.large_string())) for texts in captions),
    ]
    metadata = {**{key: str(value) for key, value in about.items()}, "found": samples.found.to_json()}
    return pa.record_batch(columns, names=names).replace_schema_metadata(metadata)


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _write(file: Any, batch: "RecordBatch") -> None:
    import pyarrow as pa

    with pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def _kept(shard: Shard, columns: Columns) -> ShardIndex | None:
    """The index that is kept of a shard as it is now; None where there is none, or a damaged one."""
    import pyarrow as pa

    wanted = {key.encode(): str(value).encode() for key, value in (shard.stamp() | _wanted(columns)).items()}
    for place in _places(shard, columns):
        try:
            with pa.memory_map(str(place)) as file:  # the map outlives the file
                batch = pa.ipc.open_file(file).get_batch(0)
            about = batch.schema.metadata or {}
            if wanted.items() <= about.items():
                batch.validate(full=True)
                return ShardIndex(shard, batch)
        except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
            continue
    return None


def _places(shard: Shard, columns: Columns) -> list[Path]:
    """Where the index of a shard may lie, the preferred place first."""
    code = _wanted(columns)["columns"]
    whole = hashlib.sha256(os.fsencode(shard.path.absolute())).hexdigest()[:32]
    places = [cache_dir() / "tar_index" / f"{whole}.{code}.arrow"]
    beside = shard.path.parent / FOLDER / f"{shard.path.name}.{code}.arrow"
    if str(beside) == printable(str(beside)):  # which Arrow opens no other path
        places.insert(0, beside)
    return places
