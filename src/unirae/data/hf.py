"""Hugging Face datasets: a ``save_to_disk`` folder, parquet files, or a name on the hub."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.core.arguments import argument
from unirae.core.errors import DataError
from unirae.core.hub import hub_asked_once
from unirae.core.log import get_logger
from unirae.data.caption_columns import CaptionColumn
from unirae.data.caption_tables import is_table
from unirae.data.decode import BadImageError, read_rgb
from unirae.data.hf_captions import HFCaptions
from unirae.data.hf_labels import LABEL_NAMES, Labels, read_labels
from unirae.data.listing import say_classes
from unirae.data.place import names_hub
from unirae.data.source import CaptionReading, Sample, Split, check_split, require_data_dir
from unirae.data.source_content import File, content_of_files, labels_sha256
from unirae.data.split import held_out
from unirae.data.split_folders import same_split, validation_split

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

log = get_logger(__name__)

_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp")


class HFSource(CaptionReading):
    """A split of a Hugging Face dataset; images are decoded from their original bytes."""

    name = "hf"

    def __init__(
        self,
        *,
        split: Split,
        data_dir: str | Path | None,
        subset: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        labels: bool = True,
        train_split: str = "train",
        val_split: str | None = None,
        val_fraction: float = 0.1,
        verify_contents: bool = False,
        caption_column: CaptionColumn = None,
    ):
        """``data_dir`` is a folder, a parquet file, or a hub name such as ``ILSVRC/imagenet-1k``.

        Columns and the validation split are found by type and name unless given; without ``labels`` no label
        column is read. Where there is no validation split, ``val_fraction`` of the training rows is held out, by a
        hash of their numbers.
        ``verify_contents``: what is kept of these images is found again only by all bytes of their files.
        ``caption_column``: the column of captions, or several with their weights; None finds it when captions are
        asked for (:mod:`unirae.data.hf_captions`).

        Raises:
            DataError: If there are no such data, splits or columns, no rows, or a class that the training split
                lacks.
        """
        check_split(split)
        self._where = str(require_data_dir(data_dir))
        splits = _load(self._where, subset, train_split)
        chosen, rows = _choose_split(splits, split, train_split, val_split, val_fraction, self._where)
        self._image_column = image_column or _find_image_column(rows, self._where)
        self._label_column = (label_column or _find_label_column(rows)) if labels else None
        for column in filter(None, (self._image_column, self._label_column)):
            if column not in rows.column_names:
                raise DataError(
                    f"{self._where} has no column '{column}'; its columns are {rows.column_names}"
                )
        found = Labels(class_names=(), numbers=[0] * len(rows))
        if self._label_column is not None:
            training = splits.get(train_split, rows)
            what = f"split '{chosen}'"
            found = read_labels(rows, training, self._label_column, what=what, where=self._where)
        self.class_names, self._labels = found.class_names, found.numbers
        say_classes(self._where, self.class_names)
        rows = rows if found.rows is None else rows.select(found.rows)
        self._files = _files_of(rows, self._image_column)
        self._all_columns, self._caption_column = rows, caption_column
        self._rows = _undecoded(rows, self._image_column).select_columns([self._image_column])
        self._names: list[str] | None = None
        saved = _is_saved(Path(self._where).expanduser())  # others are named by when their cache was written
        self._saved_as = splits[chosen]._fingerprint if saved else None
        self._verify_contents, self._content = verify_contents, None
        self.fingerprint: dict[str, Any] = {
            "source": self.name,
            "split": split,
            "path": self._where,
            "count": len(self._rows),
        }

    def content(self, *, anew: bool = False) -> dict[str, Any]:
        """The fingerprint, the labels, and the Arrow files' sizes and bytes, or times and some of the bytes.

        Where only some are read, the name counts too that ``save_to_disk`` or prepare_data.py gave to the contents.
        """
        if anew or self._content is None:
            found = content_of_files(self._files, whole=self._verify_contents)
            if self._saved_as is not None and found["bytes_read"] != "all":
                found["hf_fingerprint"] = self._saved_as
            self._content = {"labels_sha256": labels_sha256(self.class_names, self._labels), **found}
        return {**self.fingerprint, **self._content}

    @cached_property
    def captions_read(self) -> HFCaptions:
        return HFCaptions(self._all_columns, where=self._where, column=self._caption_column)

    def name_of(self, index: int) -> str | None:
        """The path that a row's image was stored with; None unless every row has one, and each another."""
        if self._names is None:
            self._names = _paths_of(self._rows, self._image_column)
        return self._names[index] if self._names else None

    def __len__(self) -> int:
        """Number of rows in this split."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """Decode one row."""
        return self.reduced(index, None)

    def reduced(self, index: int, at_least: tuple[int, int] | None) -> Sample:
        """Decode one row, perhaps at a smaller size."""
        value = self._rows[index][self._image_column]
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if not value:
            raise BadImageError(f"row {index} of {self._where} holds no image")
        image = read_rgb(value, at_least=at_least)
        return Sample(image, self._labels[index])


def split_names(where: str, subset: str | None = None) -> list[str]:
    """The splits of a data set; one that was saved without any has ``train`` alone."""
    return [str(name) for name in _load(where, subset, "train")]


def holds_parquet(folder: Path) -> bool:
    """Say whether there are parquet files of images below a folder: ``metadata.parquet`` tells of image files."""
    return any(not is_table(path.name) for path in folder.rglob("*.parquet"))


def _load(where: str, subset: str | None, train: str) -> "DatasetDict":
    """Open whatever ``where`` names; a dataset without splits becomes the split ``train``."""
    from datasets import DatasetDict

    data = _open(where, subset)
    return data if isinstance(data, DatasetDict) else DatasetDict({train: data})


def _open(where: str, subset: str | None) -> Any:
    from datasets import load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    path = Path(where).expanduser()
    try:
        if path.is_dir():
            if _is_saved(path):
                return load_from_disk(str(path))
            if holds_parquet(path):
                return load_dataset(str(path), name=subset)
        elif path.is_file() and path.suffix == ".parquet":
            return load_dataset("parquet", data_files=str(path))
        elif not path.exists() and names_hub(where):
            return _from_hub(where, subset)
    except IndexError:  # how load_from_disk says that there is nothing
        raise DataError(
            f"{where}: the data set, or a split of it, holds no rows; give one with images"
        ) from None
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        raise DataError(f"cannot read the dataset {where}: {reason}. {_expected()}") from error
    problem = "does not exist" if not path.exists() else "is not a Hugging Face dataset"
    raise DataError(f"{where} {problem}. {_expected()}")


def _from_hub(where: str, subset: str | None) -> Any:
    """A data set of the hub, or of its cache where the hub does not answer."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    with hub_asked_once() as silent:
        try:
            return load_dataset(where, name=subset)
        except (DatasetsError, OSError) as error:
            if silent is None:
                raise
            raise DataError(
                f"the dataset {where} is neither here nor in the hub's cache, and {silent}. {_expected()}"
            ) from error


def _is_saved(path: Path) -> bool:
    """Say whether a folder was written by ``save_to_disk``, or by something that writes the same."""
    return (path / "dataset_dict.json").exists() or (path / "state.json").exists()


def _expected() -> str:
    return (
        "Expected: a folder written by save_to_disk or by `python src/prepare_data.py`, a folder of parquet "
        f"files, or a hub name (needs a network once). For class folders of image files use {argument('FolderSource')}."
    )


def _choose_split(
    splits: "DatasetDict", split: Split, train: str, val: str | None, val_fraction: float, where: str
) -> tuple[str, "Dataset"]:
    """The name of a split, and its rows or the part of them that this source has."""
    val = val or validation_split(name for name in map(str, splits) if name != train)
    if val == train:
        raise DataError(same_split(where, train))
    wanted = val if split == "val" and val is not None else train
    if wanted not in splits:
        raise DataError(
            f"{where} has no split '{wanted}', only {sorted(splits)}: set {argument(f'source.{split}_split')}"
        )
    rows = splits[wanted]
    if len(rows) == 0:
        raise DataError(f"split '{wanted}' of {where} holds no rows; give data with images, or another split")
    if val is None and not (split == "train" and val_fraction == 0):
        held = held_out([str(i) for i in range(len(rows))], val_fraction)
        log.info("%s has no validation split: %d rows of '%s' are held out", where, len(held), train)
        rows = rows.select([i for i in range(len(rows)) if (i in held) == (split == "val")])
    return wanted, rows


def _find_image_column(rows: "Dataset", where: str) -> str:
    from datasets import Image

    typed = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    named = [name for name in _IMAGE_NAMES if name in rows.column_names]
    if len(typed) == 1:
        return typed[0]
    for name in named:
        if not typed or name in typed:
            return name
    raise DataError(
        f"cannot tell which column of {where} holds the images; its columns are {rows.column_names}: "
        f"set {argument('source.image_column')}"
    )


def _find_label_column(rows: "Dataset") -> str | None:
    from datasets import ClassLabel

    typed = [name for name, feature in rows.features.items() if isinstance(feature, ClassLabel)]
    return typed[0] if len(typed) == 1 else next((n for n in LABEL_NAMES if n in rows.column_names), None)


def _files_of(rows: "Dataset", column: str) -> list[File]:
    """The files that hold the images: Arrow files, and those that rows name instead of holding them."""
    import pyarrow as pa

    arrow = [(Path(file["filename"]).name, Path(file["filename"])) for file in rows.cache_files]
    stored = rows.data.column(column)
    if pa.types.is_struct(stored.type):
        parts = dict(zip((field.name for field in stored.type), stored.flatten(), strict=True))
        if not {"bytes", "path"} <= set(parts) or parts["bytes"].null_count == 0:
            return arrow
        stored = parts["path"].filter(parts["bytes"].is_null())
    if not pa.types.is_string(stored.type) or len(stored) == 0:
        return arrow
    return arrow + [(name, Path(name)) for name in dict.fromkeys(stored.to_pylist()) if name]


def _paths_of(rows: "Dataset", column: str) -> list[str]:
    """The paths that images were stored with, in the order of the rows; empty unless all have one, and another."""
    import pyarrow as pa

    stored = rows.data.column(column)
    if not pa.types.is_struct(stored.type) or stored.type.get_field_index("path") < 0:
        return []
    paths = stored.flatten()[stored.type.get_field_index("path")].to_pylist()
    if rows._indices is not None:
        paths = [paths[i] for i in rows._indices.column(0).to_pylist()]
    return paths if all(paths) and len(set(paths)) == len(paths) else []


def _undecoded(rows: "Dataset", column: str) -> "Dataset":
    """Rows that give the stored bytes: decoding is ours, so that a corrupt image can be replaced."""
    from datasets import Image

    return rows.cast_column(column, Image(decode=False)) if isinstance(rows.features[column], Image) else rows
