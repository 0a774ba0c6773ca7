"""Captions that ``prepare_data`` carries into its output: columns beside the images', and hashes to notice changes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, DataError
from unirae.data.archive import ImageFiles
from unirae.data.file_kinds import OTHER
from unirae.data.folder_captions import FolderCaptions
from unirae.data.hf_labels import LABEL_NAMES
from unirae.data.tar_samples import LABEL_KEYS

if TYPE_CHECKING:
    from datasets import Features

COLUMN = "text"
"""The name of the column where there is one."""
_OWN = ("image", "label")
"""The columns that the output has of its own."""
_LABELS = frozenset((*LABEL_NAMES, *LABEL_KEYS))
"""The columns that readers of the output take for labels."""

Captions = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class PreparedCaptions:
    """The captions of a conversion's pictures.

    Attributes:
        columns: of the output, and whether they hold lists of texts.
        by_path: the captions of the pictures that have some, by columns.
    """

    columns: dict[str, bool] = field(default_factory=dict)
    by_path: Mapping[str, Captions] = field(default_factory=dict)

    def sha256(self, path: str) -> str | None:
        """Hash of a picture's captions; None where it has none."""
        found = self.by_path.get(path)
        return None if found is None else hashlib.sha256(json.dumps(found).encode()).hexdigest()

    def row(self, path: str) -> dict[str, Any]:
        """The part of a picture's row that holds its captions; null, or an empty list, for one that is missing."""
        found = self.by_path.get(path, {})
        return {
            name: list(found.get(name, ())) if several else next(iter(found.get(name, ())), None)
            for name, several in self.columns.items()
        }

    def features(self) -> "Features":
        """The types of the columns."""
        from datasets import Features, List, Value

        types = {
            name: List(Value("string")) if several else Value("string")
            for name, several in self.columns.items()
        }
        return Features(types)


def captions_to_prepare(files: ImageFiles, *, where: str, wanted: Sequence[str] | None) -> PreparedCaptions:
    """Read the captions of images; their files no longer count as left out.

    Args:
        wanted: the columns; None takes all that are found by their names, and nothing takes none.

    Raises:
        ConfigError: If a column would have a name of the images' or of the labels'.
        DataError: If the captions cannot be read (:class:`~unirae.data.folder_captions.FolderCaptions`).
    """
    if wanted is not None and not wanted:
        return PreparedCaptions()
    column = None if wanted is None else dict.fromkeys(wanted, 1.0)
    try:
        found = FolderCaptions(files.paths, files.caption_files(), where=where, column=column, several=True)
    except DataError as error:
        if wanted is not None:
            raise
        without = argument("prepare.caption_columns", "none")  # nobody has asked for captions
        raise DataError(f"{str(error).rstrip('.')}; or leave captions out: {without}") from None
    files.left_out.kinds[OTHER] -= found.files
    names = (COLUMN,) if len(found.columns) == 1 else found.columns
    _check_names(names)
    by_path = {
        path: {name: texts for name, texts in zip(names, found.found(index), strict=True) if texts}
        for index, path in enumerate(files.paths)
    }
    columns = {name: any(len(captions.get(name, ())) > 1 for captions in by_path.values()) for name in names}
    return PreparedCaptions(columns, {path: captions for path, captions in by_path.items() if captions})


def _check_names(names: Sequence[str]) -> None:
    """Refuse captions under a name that a reader of the output takes for something else.

    Raises:
        ConfigError: If there are such.
    """
    for name in names:
        if name in _OWN:
            wrong = f"the output has a column '{name}' of its own"
        elif name in _LABELS:
            wrong = f"what stands under '{name}' in the output would be read as labels"
        else:
            continue
        shown = argument("source.caption_column", ",".join(names))
        raise ConfigError(f"{shown}: {wrong}; take that one alone, or rename it")
