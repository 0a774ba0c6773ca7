"""Captions by columns, whatever they are read from: which columns, how often each is drawn, and what counts as text.

A column is one of a table (``metadata.csv``, a Hugging Face data set), a key of ``NAME.json``, or ``txt`` for
``NAME.txt``. It gives a picture one caption, several (a list of texts), or none.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError

CaptionColumn = str | Mapping[str, float] | None
"""A column, several with their weights, or None for the one that is found by its name and type."""

CAPTION_NAMES = (
    "text",
    "texts",
    "caption",
    "captions",
    "prompt",
    "prompts",
    "description",
    "descriptions",
    "sentences_raw",
    "txt",
)
"""Columns that are taken for captions where none is named."""
TXT = "txt"
"""The column that a picture's ``NAME.txt`` stands for, as in tar shards."""
MOST_TEXT_BYTES = 2**20
"""A picture's own file of captions, or labels, that is larger counts as unreadable."""
TOO_LARGE = f"larger than {MOST_TEXT_BYTES >> 20} MiB"
"""Why, for the log."""

Found = tuple[tuple[str, ...], ...]
"""A picture's captions: for each column those that are there."""


class NoTextError(ValueError):
    """A value that is no caption; the message says what it is instead."""


def weights_of(column: CaptionColumn) -> dict[str, float] | None:
    """The columns that were named, with weights that add up to 1; None where they are to be found.

    Raises:
        ConfigError: If no column is named, a name is blank, or a weight is not a finite number above 0.
    """
    if column is None:
        return None
    weights = {column: 1.0} if isinstance(column, str) else dict(column)
    shown = argument("source.caption_column", column)
    if not weights or not all(isinstance(name, str) and name.strip() for name in weights):
        raise ConfigError(f"{shown}: name a column, or several with their weights ({{text: 3, prompt: 1}})")
    for name, weight in weights.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight <= 0:
            raise ConfigError(f"{shown}: the weight of '{name}' must be a finite number above 0")
    total = sum(weights.values())
    if not math.isfinite(total):
        raise ConfigError(f"{shown}: the weights are too large to be added")
    return {name: weight / total for name, weight in weights.items()}


def ways_to_choose(names: Sequence[str]) -> str:
    """What to set so that one of several columns is meant, or each of them sometimes; for errors."""
    weights = "{" + ",".join(f"{name}:1" for name in names) + "}"
    one, some = (argument("source.caption_column", value) for value in (names[0], weights))
    return f"say which is meant, or how often each is drawn: {one}, or {some}"


def texts_of(value: Any) -> tuple[str, ...]:
    """The captions that a value holds: of a text itself, of a list its items; nothing and blank ones are none.

    White space at the ends goes, Windows' line ends become plain ones; line breaks inside stay.

    Raises:
        NoTextError: If the value is neither text nor a list of texts.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (text,) if (text := _cleaned(value)) else ()
    if not isinstance(value, list | tuple):
        raise NoTextError(f"{_kind_of(value)}, not text")
    for item in value:
        if item is not None and not isinstance(item, str):
            raise NoTextError(f"a list with {_kind_of(item)}, not with texts")
    return tuple(text for item in value for text in texts_of(item))


def is_textual(value: Any) -> bool:
    """Say whether a value holds at least one caption."""
    try:
        return bool(texts_of(value))
    except NoTextError:
        return False


class ColumnCaptions(ABC):
    """The captions of a source's pictures by columns; none where there are no columns.

    A picture has as many places for captions as the columns of the picture with the most of them. Places that it does
    not fill are missing captions, and the weight of a column is shared equally by the captions that are there.

    Args:
        weights: the columns and how often each is drawn, adding up to 1.
        widths: the largest number of captions that a picture has in each column, at least 1.
    """

    def __init__(self, weights: Mapping[str, float], widths: Mapping[str, int]) -> None:
        self.columns = tuple(weights)
        self._weights = tuple(weights.values())
        self._widths = tuple(max(widths[name], 1) for name in weights)
        places = zip(self._weights, self._widths, strict=True)
        self.weights = tuple(weight / width for weight, width in places for _ in range(width))

    @abstractmethod
    def found(self, index: int) -> Found:
        """The captions of a picture that are there, by columns."""

    def captions(self, index: int) -> tuple[str, ...]:
        """A picture's captions, one for each place; "" for one that is missing."""
        return tuple(
            text
            for texts, width in zip(self.found(index), self._widths, strict=True)
            for text in (*texts, *[""] * (width - len(texts)))
        )

    def weights_of(self, index: int) -> tuple[float, ...]:
        """How often each of a picture's captions is drawn; a missing one has its column's usual weight."""
        if max(self._widths, default=1) == 1:
            return self.weights
        return tuple(
            weight / (len(texts) if place < len(texts) else width)
            for texts, weight, width in zip(self.found(index), self._weights, self._widths, strict=True)
            for place in range(width)
        )


def _cleaned(text: str) -> str:
    """A text as a caption.

    Raises:
        NoTextError: If it cannot be written as UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NoTextError(f"half a character (\\u{ord(text[error.start]):04x})") from None
    return text.replace("\r\n", "\n").strip()


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "a node with keys" if isinstance(value, Mapping) else f"a value of type {type(value).__name__}"
