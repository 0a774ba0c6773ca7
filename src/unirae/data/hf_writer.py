"""The files of a Hugging Face ``save_to_disk`` folder, written piece by piece.

``Dataset.save_to_disk`` itself wants the whole dataset as Arrow files first and then copies it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from unirae.core.io import write_json

if TYPE_CHECKING:
    from datasets import Features

_ROWS_PER_BATCH = 100  # as HF datasets groups images: small enough for random access


def features_for(class_names: tuple[str, ...]) -> "Features":
    """An image column and, where there are classes, a label column."""
    from datasets import ClassLabel, Features, Image

    columns: dict[str, Any] = {"image": Image()}
    if class_names:
        columns["label"] = ClassLabel(names=list(class_names))
    return Features(columns)


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
