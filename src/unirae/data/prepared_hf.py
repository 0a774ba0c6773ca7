"""The output of ``prepare_data`` as a Hugging Face ``save_to_disk`` folder, written piece by piece.

``Dataset.save_to_disk`` itself wants the whole dataset as Arrow files first and then copies it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from unirae.core.io import write_json
from unirae.core.names import printable
from unirae.data.prepared_captions import PreparedCaptions
from unirae.data.prepared_shards import FileRecord, Format, Shard, ShardRecord, rows_sha256

if TYPE_CHECKING:
    from datasets import Features

_ROWS_PER_BATCH = 100  # as HF datasets groups images: small enough for random access
_DATASET = "dataset_dict.json"


class HFFormat(Format):
    """A DatasetDict: ``train/data-00000-of-00012.arrow``, ``validation/…``."""

    name = "hf"
    suffix = ".arrow"
    splits = ("train", "validation")

    def shard_name(self, number: int, count: int) -> str:
        """The name of a split's Arrow file, without its suffix."""
        return f"data-{number:05d}-of-{count:05d}"

    def write(
        self,
        file: IO[bytes],
        *,
        shard: Shard,
        rows: Sequence[tuple[int, FileRecord, bytes]],
        class_names: tuple[str, ...],
        captions: PreparedCaptions,
    ) -> None:
        """Write the rows of a shard: image, label and captions."""
        stored = [
            {
                "image": {"bytes": content, "path": printable(record.path)},
                "label": record.label,
                **captions.row(record.path),
            }
            for _, record, content in rows
        ]
        write_arrow(file, rows=stored, features=features_for(class_names, captions))

    def finish(
        self,
        folder: Path,
        *,
        records: dict[Shard, ShardRecord],
        class_names: tuple[str, ...],
        captions: PreparedCaptions,
    ) -> None:
        """Write the files that make the folder a DatasetDict."""
        features = features_for(class_names, captions)
        splits = list(dict.fromkeys(shard.split for shard in records))
        for split in splits:
            of_split = {shard: record for shard, record in records.items() if shard.split == split}
            fingerprint = rows_sha256(class_names, of_split.values())[:16]
            used = [shard.data.name for shard, record in of_split.items() if record.rows]
            if used:
                write_split_metadata(folder / split, split, used, fingerprint, features)
        write_json(folder / _DATASET, {"splits": splits})


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
