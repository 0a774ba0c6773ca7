"""The bundled default: colour emoji, 64 px on white, in the nine groups of Unicode.

Rendered from Noto Color Emoji by tools/build_emoji.py; ``assets/emoji.json`` says from which version, and the
font's licence lies beside it. A fixed tenth of each group, chosen by a hash of the code points, is for
validation.
"""

from importlib import resources
from typing import Any

import PIL.Image

from unirae.core.io import read_json
from unirae.data.decode import read_rgb
from unirae.data.source import Sample, Source, Split, check_split


class EmojiSource(Source):
    """About 1,850 pictures; reads one file of the package, writes none, needs no network."""

    name = "emoji"
    caption_weights: tuple[float, ...] = (1.0,)

    def __init__(self, *, split: Split):
        import pyarrow.parquet
        from datasets import Dataset, Image
        from datasets.table import InMemoryTable

        check_split(split)
        assets = resources.files("unirae.data") / "assets"
        with resources.as_file(assets / "emoji.parquet") as path:
            # an in-memory table: Dataset.from_parquet would write a copy into the user's cache
            dataset = Dataset(InMemoryTable(pyarrow.parquet.read_table(path)))
        rows = [i for i, part in enumerate(dataset["split"]) if part == split]
        self._rows = dataset.cast_column("image", Image(decode=False)).select(rows)
        self._decoded: dict[int, PIL.Image.Image] = {}  # 12 kB each: decoding would cost a tiny model's step
        self._labels: list[int] = list(self._rows["label"])
        self._names: list[str] = list(self._rows["name"])
        self.class_names: tuple[str, ...] = tuple(dataset.features["label"].names)
        with resources.as_file(assets / "emoji.json") as path:
            file_hash = read_json(path)["sha256"]
        self.fingerprint: dict[str, Any] = {"source": self.name, "split": split, "sha256": file_hash}

    @property
    def emoji(self) -> list[str]:
        """The emoji as text, in order."""
        return list(self._rows["emoji"])

    def captions_of(self, index: int) -> tuple[str, ...]:
        """The emoji's name in Unicode, such as ``grinning face with big eyes``."""
        return (self._names[index],)

    def __len__(self) -> int:
        """Number of pictures in this split."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """Read one picture of 64 × 64 px."""
        if index not in self._decoded:
            self._decoded[index] = read_rgb(self._rows[index]["image"]["bytes"])
        return Sample(self._decoded[index], self._labels[index])
