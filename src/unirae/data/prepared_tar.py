"""The output of ``prepare_data`` as tar shards in WebDataset's layout, for data=tar_shards and other programs."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from unirae.core.io import write_json
from unirae.data.prepared_captions import PreparedCaptions
from unirae.data.prepared_shards import FileRecord, Format, Shard, ShardRecord
from unirae.data.tar_classes import CLASSES


class TarFormat(Format):
    """``train/00000.tar``, ``val/…``, with members ``000000012.jpg``, ``.cls`` (a number) and ``.txt`` or ``.json``.

    Pictures keep their original bytes and suffix. One caption for each picture is a member ``.txt``; several columns,
    or lists, are the keys of ``.json``. The names of the classes are in ``classes.json`` beside the splits.
    """

    name = "tar"
    suffix = ".tar"
    splits = ("train", "val")

    def shard_name(self, number: int, count: int) -> str:
        """The number of the shard, with at least five digits."""
        return f"{number:0{max(5, len(str(count - 1)))}d}"

    def write(
        self,
        file: IO[bytes],
        *,
        shard: Shard,
        rows: Sequence[tuple[int, FileRecord, bytes]],
        class_names: tuple[str, ...],
        captions: PreparedCaptions,
    ) -> None:
        """Write the samples of a shard; the same samples are the same bytes at any time."""
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, record, content in rows:
                key = f"{number:09d}"
                _add(tar, key + PurePosixPath(record.path).suffix.lower(), content)
                if class_names:
                    _add(tar, f"{key}.cls", str(record.label).encode())
                kind, text = _captions(captions, record.path)
                if text:
                    _add(tar, f"{key}.{kind}", text.encode())

    def finish(
        self,
        folder: Path,
        *,
        records: dict[Shard, ShardRecord],
        class_names: tuple[str, ...],
        captions: PreparedCaptions,
    ) -> None:
        """Write the names of the classes."""
        if class_names:
            write_json(folder / CLASSES, list(class_names))
        else:
            (folder / CLASSES).unlink(missing_ok=True)


def _captions(captions: PreparedCaptions, path: str) -> tuple[str, str]:
    """The kind and the content of the member that holds a picture's captions; empty where it has none."""
    found: dict[str, Any] = {name: value for name, value in captions.row(path).items() if value}
    if len(captions.columns) == 1 and not any(captions.columns.values()):
        return "txt", next(iter(found.values()), "")
    return "json", json.dumps(found, ensure_ascii=False) if found else ""


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(content)
    tar.addfile(about, io.BytesIO(content))
