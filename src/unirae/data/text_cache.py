"""Cache of texts as tokens: what a text encoder makes of captions, encoded once, in memory-mapped files.

A cache is a folder for one text encoder and precision::

    about.json         which text encoder (its decisive identity), which precision
    CODE.npy           tokens of some texts one after the other, [tokens, width], without filling
    CODE.index.npy     of each of these texts its hash (two words), where its tokens begin, and how many they are;
                       written after the tokens: the part is whole

``unirae.evaluation.latents.text_writing`` writes it. A text is found by the hash of its words alone, so a cache grows
by what it lacks, and never holds what is no longer true.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.lib.format import open_memmap
from torch import Tensor
from torch.utils.data import default_collate

from unirae.core.errors import DataError

ABOUT = "about.json"
INDEX_SUFFIX = ".index.npy"
_COLUMNS = ("hash_1", "hash_2", "start", "length")
MULTIPLE = 16
"""Batches are filled up to a multiple of this many tokens, so that compiled networks meet few lengths."""


def hash_of(text: str) -> tuple[int, int]:
    """Hash of a text, 128 bits in two words."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


class TextCache:
    """The tokens of texts by their words.

    Args:
        folder: of one text encoder and precision; it may still be empty.
        width: of a token.
    """

    def __init__(self, folder: Path, *, width: int) -> None:
        self.folder, self.width = folder, width
        self._parts: list[np.ndarray | None] = []
        self.reload()

    def reload(self) -> None:
        """Look again for what was written.

        Raises:
            DataError: If a part is damaged.
        """
        tables = []
        self._names = sorted(
            file.name.removesuffix(INDEX_SUFFIX) for file in self.folder.glob(f"*{INDEX_SUFFIX}")
        )
        for number, name in enumerate(self._names):
            table = self._read(name)
            tables.append(np.column_stack([table, np.full(len(table), number, dtype=np.uint64)]))
        empty = np.zeros((0, len(_COLUMNS) + 1), dtype=np.uint64)
        whole = np.concatenate([empty, *tables])
        self._table = whole[np.argsort(whole[:, 0], kind="stable")]
        self._parts = [None] * len(self._names)

    def __getstate__(self) -> dict[str, Any]:
        """The state without the mapped files, which pickle would copy whole."""
        return {**vars(self), "_parts": [None] * len(self._names)}

    def __contains__(self, text: str) -> bool:
        """Say whether a text's tokens are here."""
        return self._row(text) is not None

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts whose tokens are not here, each once, in the order of their hashes."""
        return sorted({text for text in texts if text not in self}, key=hash_of)

    def tokens_of(self, text: str) -> Float[Tensor, "l d"]:
        """The tokens of a text in float32; none of a text that has none.

        Raises:
            DataError: If the text is not here.
        """
        row = self._row(text)
        if row is None:
            raise DataError(
                f"{self.folder} lacks the text {text[:60]!r}: the captions changed since training began; start again"
            )
        start, length, part = (int(value) for value in row[2:])
        return torch.from_numpy(self._mapped(part)[start : start + length].astype(np.float32))

    def padded(self, texts: Sequence[str]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """The tokens of texts, filled up to a multiple of 16, and which of them are no filling."""
        found = [self.tokens_of(text) for text in texts]
        longest = max([1, *map(len, found)])
        length = -(-longest // MULTIPLE) * MULTIPLE
        tokens = torch.zeros(len(found), length, self.width)
        mask = torch.zeros(len(found), length, dtype=torch.bool)
        for number, own in enumerate(found):
            tokens[number, : len(own)], mask[number, : len(own)] = own, True
        return tokens, mask

    def _row(self, text: str) -> np.ndarray | None:
        first, second = map(np.uint64, hash_of(text))
        at = int(np.searchsorted(self._table[:, 0], first))
        while at < len(self._table) and self._table[at, 0] == first:
            if self._table[at, 1] == second:
                return self._table[at]
            at += 1
        return None

    def _mapped(self, part: int) -> np.ndarray:
        mapped = self._parts[part]
        if mapped is None:
            mapped = self._parts[part] = open_memmap(self.folder / f"{self._names[part]}.npy", mode="r")
        return mapped

    def _read(self, name: str) -> np.ndarray:
        """The index of a part, whose tokens must be there to the last."""
        file = self.folder / f"{name}{INDEX_SUFFIX}"
        try:
            # not np.load, which takes an archive for an array, and leaves its file open
            table = np.array(open_memmap(file, mode="r"))
            tokens = open_memmap(self.folder / f"{name}.npy", mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{file} or its tokens are damaged ({error}): remove both, and they are made again"
            ) from None
        if not self._fit(table, tokens):
            raise DataError(f"{file} and its tokens do not fit: remove both, and they are made again")
        return table

    def _fit(self, table: np.ndarray, tokens: np.ndarray) -> bool:
        if table.dtype != np.uint64 or table.ndim != 2 or table.shape[1] != len(_COLUMNS):
            return False
        ends = table[:, 2] + table[:, 3]
        return tokens.ndim == 2 and tokens.shape[1] == self.width and int(ends.max(initial=0)) <= len(tokens)


class TokensOfCaptions:
    """Collation of samples whose ``"caption"`` becomes ``"text"`` and ``"text_mask"``, out of a cache.

    Args:
        cache: with the captions of all samples.
    """

    def __init__(self, cache: TextCache) -> None:
        self._cache = cache

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch."""
        captions = [sample.pop("caption") for sample in samples]
        tokens, mask = self._cache.padded(captions)
        return {**default_collate(samples), "text": tokens, "text_mask": mask}
