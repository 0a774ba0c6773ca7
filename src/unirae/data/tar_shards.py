"""Tar shards in WebDataset's layout, read by number: each picture by one read at its place, in any order.

Unlike WebDataset, which streams, the order is that of any other source: a pass is a permutation of all pictures, a
resumed run goes on exactly, and several processes share an epoch without overlap.
"""

import hashlib
import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unirae.core.errors import ConfigError, DataError
from unirae.core.names import on_one_line, printable
from unirae.data.caption_columns import CaptionColumn
from unirae.data.decode import BadImageError, read_rgb
from unirae.data.hf_labels import Labels
from unirae.data.listing import say_classes
from unirae.data.source import CaptionReading, Sample, Split, check_split, require_data_dir
from unirae.data.source_content import content_of_files, labels_sha256
from unirae.data.split import held_out
from unirae.data.tar_captions import TarCaptions, columns_of
from unirae.data.tar_classes import classes_of
from unirae.data.tar_index import ShardIndex, open_indexes
from unirae.data.tar_listing import find_shards, split_shards
from unirae.data.tar_report import say_found

_MOST_OPEN_FILES = 128
"""Shards that a process holds open, and never more than a quarter of the files that it may."""


class TarShardsSource(CaptionReading):
    """Samples of tar files: pictures ``KEY.jpg`` with ``KEY.txt`` or ``KEY.json``, and ``KEY.cls``."""

    name = "tar_shards"

    def __init__(
        self,
        *,
        split: Split,
        data_dir: str | Path | None,
        labels: bool = True,
        caption_column: CaptionColumn = None,
        train_split: str | None = None,
        val_split: str | None = None,
        val_fraction: float = 0.1,
        verify_contents: bool = False,
    ):
        """``data_dir`` is a folder of tars, one tar, or a pattern such as ``shard-{000000..000418}.tar``.

        The shards are indexed once (:mod:`unirae.data.tar_index`). Where there are no shards for validation,
        ``val_fraction`` of the samples is held out, by a hash of their keys.

        Args:
            labels: false reads pictures without classes.
            caption_column: the column of captions, or several with their weights; None finds it when captions are asked
                for (:mod:`unirae.data.tar_captions`).
            train_split: the folder of the shards for training, or a word in their names; "." for all shards.
            val_split: that of the shards for validation, likewise.
            verify_contents: what is kept of these pictures is found again only by all bytes of the shards.

        Raises:
            ConfigError: If ``val_fraction`` or ``caption_column`` cannot be.
            DataError: If there are no shards, no pictures or none of a split, if shards are missing or compressed, or
                if a key has two pictures.
        """
        check_split(split)
        if not 0 <= val_fraction <= 1:
            raise ConfigError(f"val_fraction={val_fraction} must be between 0 and 1")
        columns = columns_of(caption_column)
        self._where = str(require_data_dir(data_dir))
        train, val = split_shards(
            find_shards(self._where), train=train_split, val=val_split, where=self._where
        )
        training = open_indexes(train, columns=columns, where=self._where)
        validation = open_indexes(val, columns=columns, where=self._where) if val is not None else None
        self._indexes = training if split == "train" or validation is None else validation
        self._all_indexes = [*training, *(validation or [])]
        say_found(self._where, self._all_indexes)
        self._place(split, None if validation is None else training, val_fraction, labels)
        self._files, self._caption_column = _OpenFiles(self._indexes), caption_column
        self._verify_contents, self._content = verify_contents, None
        self.fingerprint: dict[str, Any] = {
            "source": self.name,
            "split": split,
            "path": printable(self._where),
            "count": len(self),
            "names_sha256": self._names_sha256(),
        }

    def _place(
        self, split: Split, training: list[ShardIndex] | None, val_fraction: float, labels: bool
    ) -> None:
        """Choose the samples of the split, and number their classes.

        Args:
            training: the indexes of the training split where it has shards of its own; else a part is held out.
        """
        counts = [len(index) for index in self._indexes]
        shard = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        row = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
        chosen = np.ones(len(shard), dtype=bool)
        if training is None and not (split == "train" and val_fraction == 0):
            held = held_out([key for index in self._indexes for key in index.keys()], val_fraction)  # noqa: SIM118
            chosen[:] = split == "train"
            chosen[list(held)] = split == "val"
        shard, row = shard[chosen], row[chosen]
        found = Labels(class_names=(), numbers=[0] * len(shard))
        if labels:
            root = Path(self._where).expanduser()
            found = classes_of(
                self._indexes,
                self._indexes if training is None else training,
                chosen,
                folder=root if root.is_dir() else root.parent,
                what=f"split '{split}'",
                where=self._where,
            )
        if found.rows is not None:
            shard, row = shard[found.rows], row[found.rows]
        if not len(shard):
            raise DataError(
                f"{self._where} leaves no pictures for split '{split}' with val_fraction={val_fraction}; give more "
                "pictures, or hold another part out"
            )
        self._shard, self._row = shard, row
        self.class_names, self._labels = found.class_names, np.asarray(found.numbers, dtype=np.int64)
        say_classes(self._where, self.class_names)

    def name_of(self, index: int) -> str:
        """The shard and the key of a sample: ``train/0001.tar/000123``."""
        place, row = self._at(index)
        return printable(f"{place.shard.name}/{place.key(row)}")

    @cached_property
    def captions_read(self) -> TarCaptions:
        return TarCaptions(self._all_indexes, self._at, where=self._where, column=self._caption_column)

    def _at(self, index: int) -> tuple[ShardIndex, int]:
        """The index of a sample's shard, and the sample's row in it."""
        return self._indexes[self._shard[index]], int(self._row[index])

    def content(self, *, anew: bool = False) -> dict[str, Any]:
        """The fingerprint, the labels, and the shards' sizes and bytes, or times and some of the bytes."""
        if anew or self._content is None:
            shards = [index.shard for index in self._indexes]
            files = [(shard.name, shard.path) for shard in shards]
            self._content = {
                "labels_sha256": labels_sha256(self.class_names, self._labels.tolist()),
                **content_of_files(files, whole=self._verify_contents),
            }
        return {**self.fingerprint, **self._content}

    def __len__(self) -> int:
        """Number of samples in this split."""
        return len(self._shard)

    def __getitem__(self, index: int) -> Sample:
        """Decode one picture."""
        return self.reduced(index, None)

    def reduced(self, index: int, at_least: tuple[int, int] | None) -> Sample:
        """Decode one picture, perhaps at a smaller size."""
        try:
            image = read_rgb(self.encoded(index), at_least=at_least)
        except BadImageError as error:
            raise BadImageError(f"{on_one_line(self.name_of(index))}: {error}") from error
        return Sample(image, int(self._labels[index]))

    def encoded(self, index: int) -> bytes:
        """The bytes of a picture's member.

        Raises:
            BadImageError: If they cannot be read.
            DataError: If the shard has changed since it was indexed, or is gone.
        """
        number, row = int(self._shard[index]), int(self._row[index])
        place = self._indexes[number]
        return self._files.read(number, int(place.offsets[row]), int(place.sizes[row]))

    def _names_sha256(self) -> str:
        digest = hashlib.sha256()
        # samples lie in the order of the shards
        ends = np.searchsorted(self._shard, np.arange(len(self._indexes) + 1))
        for number, index in enumerate(self._indexes):
            keys = index.keys()
            rows = self._row[ends[number] : ends[number + 1]].tolist()
            names = "".join(f"{index.shard.name}/{keys[row]}\n" for row in rows)
            digest.update(names.encode(errors="surrogateescape"))
        return digest.hexdigest()


class _OpenFile:
    """A descriptor that is closed when nobody reads from it any more."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self):
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class _OpenFiles:
    """Shards that are open, those that were opened last; in another process that gets this they are opened anew."""

    def __init__(self, indexes: list[ShardIndex]):
        self._indexes = indexes
        self._open: dict[int, _OpenFile] = {}
        self._most = _most_open_files()

    def read(self, number: int, offset: int, count: int) -> bytes:
        """``count`` bytes of a shard.

        Raises:
            BadImageError: If they cannot be read.
            DataError: If the shard is gone, or is not as it was indexed: also when written to while it is open.
        """
        file = self._file(number)
        try:
            found = os.pread(file.descriptor, count, offset)
            while 0 < len(found) < count and (
                more := os.pread(file.descriptor, count - len(found), offset + len(found))
            ):
                found += more
            now = os.fstat(file.descriptor)  # behind the reading, so that no change escapes it
        except OSError as error:
            raise BadImageError(f"{type(error).__name__}: {error.strerror}") from error
        _check_unchanged(self._indexes[number], now)
        if len(found) < count:
            raise BadImageError("the shard is shorter than it was")
        return found

    def _file(self, number: int) -> _OpenFile:
        """An open shard. Without a lock, which a worker could inherit held: threads may open one twice, and no more."""
        file = self._open.get(number)
        if file is None:
            file = self._open[number] = self._opened(self._indexes[number])
            if len(self._open) > self._most:
                with suppress(StopIteration, RuntimeError):  # of a thread that does the same
                    self._open.pop(next(iter(self._open)), None)
        return file

    def _opened(self, index: ShardIndex) -> _OpenFile:
        path = index.shard.path
        try:
            return _OpenFile(path)
        except OSError as error:
            raise DataError(f"cannot read {path}, which was there at the start: {error.strerror}") from None

    def __getstate__(self) -> Mapping[str, Any]:
        return {"_indexes": self._indexes}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["_indexes"])


def _check_unchanged(index: ShardIndex, now: os.stat_result) -> None:
    if (now.st_size, now.st_mtime_ns) != (index.size, index.mtime_ns):
        raise DataError(
            f"{index.shard.path} has changed since it was indexed, so that its pictures lie elsewhere; start again"
        )


def _most_open_files() -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        _MOST_OPEN_FILES if allowed == resource.RLIM_INFINITY else min(_MOST_OPEN_FILES, max(1, allowed // 4))
    )
