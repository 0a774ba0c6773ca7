"""Images in folders: a folder for each class, or all in one."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from unirae.core.errors import DataError
from unirae.core.names import printable
from unirae.data.caption_columns import CaptionColumn
from unirae.data.caption_files import FolderCaptionFiles
from unirae.data.decode import read_rgb
from unirae.data.folder_captions import FolderCaptions
from unirae.data.listing import EXPECTED_LAYOUT, arrange, find_images, say_classes
from unirae.data.source import CaptionReading, Sample, Split, check_split, require_data_dir
from unirae.data.source_content import content_of_files, labels_sha256


class FolderSource(CaptionReading):
    """Files below ``data_dir``: train/ and val/ where they exist, else a fixed part is held out."""

    name = "image_folder"

    def __init__(
        self,
        *,
        split: Split,
        data_dir: str | Path | None,
        val_fraction: float = 0.1,
        labels: bool = True,
        train_split: str | None = None,
        val_split: str | None = None,
        files: Sequence[str] | None = None,
        verify_contents: bool = False,
        caption_column: CaptionColumn = None,
    ):
        """Find the images of a split; captions are read when they are asked for.

        Args:
            val_fraction: counts only without a validation folder; the files' names decide, not chance.
            labels: false takes the images of a split without classes, wherever they lie in it.
            train_split: the folder of the training split, where its name does not say so; "." for none.
            val_split: the folder of the validation split, likewise.
            files: only these paths below ``data_dir``.
            verify_contents: what is kept of these images is found again only by all bytes of their files.
            caption_column: the column of captions, or several with their weights (:mod:`unirae.data.folder_captions`);
                None finds it.
        """
        check_split(split)
        self._root = Path(require_data_dir(data_dir)).expanduser()
        paths = find_images(self._root) if files is None else files
        listing = arrange(
            paths,
            val_fraction=val_fraction,
            where=str(self._root),
            labels=labels,
            train_split=train_split,
            val_split=val_split,
        )
        say_classes(str(self._root), listing.class_names)
        self._entries = listing.train if split == "train" else listing.val
        if not self._entries:
            raise DataError(
                f"{self._root} leaves no images for split '{split}' with val_fraction={val_fraction}; "
                f"{EXPECTED_LAYOUT}"
            )
        self.class_names = listing.class_names
        self._split, self._paths, self._caption_column = split, paths, caption_column
        self._verify_contents, self._content = verify_contents, None
        names = "\n".join(entry.path for entry in self._entries)
        self.fingerprint: dict[str, Any] = {
            "source": self.name,
            "split": split,
            "path": printable(str(self._root)),
            "count": len(self._entries),
            "names_sha256": hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest(),
        }

    @cached_property
    def captions_read(self) -> FolderCaptions:
        pictures = [entry.path for entry in self._entries]
        return FolderCaptions(
            pictures,
            FolderCaptionFiles(self._root, pictures),
            where=str(self._root),
            known=self._paths,
            column=self._caption_column,
            strict=self._split == "train",
        )

    def name_of(self, index: int) -> str:
        """The path of an image below the folder, as text."""
        return printable(self._entries[index].path)

    def content(self, *, anew: bool = False) -> dict[str, Any]:
        """The fingerprint, the labels, and the files' sizes and bytes, or times and some of the bytes."""
        if anew or self._content is None:
            files = [(entry.path, self._root / entry.path) for entry in self._entries]
            self._content = {
                "labels_sha256": labels_sha256(self.class_names, (entry.label for entry in self._entries)),
                **content_of_files(files, whole=self._verify_contents),
            }
        return {**self.fingerprint, **self._content}

    def __len__(self) -> int:
        """Number of files in this split."""
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        """Decode one file."""
        return self.reduced(index, None)

    def reduced(self, index: int, at_least: tuple[int, int] | None) -> Sample:
        """Decode one file, perhaps at a smaller size."""
        entry = self._entries[index]
        return Sample(read_rgb(self._root / entry.path, at_least=at_least), max(entry.label, 0))
