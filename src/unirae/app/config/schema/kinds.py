"""Kinds and ranges of the values of configuration keys and options, written as annotations.

``Annotated[int, Range(1)]`` is a whole number from 1 up, ``PathText | None`` a path or null. :func:`read` turns a value
into one of that kind, :func:`describe` says in words what is meant, for errors.
"""

import math
import os
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, dataclass_transform, get_args, get_origin


class Mismatch(Exception):
    """The error that a value is not of the kind that is meant."""


@dataclass(frozen=True)
class Range:
    """The finite numbers from ``low`` to ``high``, both included unless open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'from'} {self.low:.12g}"
        if self.high == math.inf:
            return low if self.open_low else f"{low} up"
        high = f"{'below ' if self.open_high else ''}{self.high:.12g}"
        return f"{low} {'and' if self.open_low and self.open_high else 'to'} {high}"


class Distinct:
    """The mark of a list in which nothing stands twice."""

    def __str__(self) -> str:
        return "and none twice"


class IsPath:
    """The mark of text that names a file or a folder; a ``~`` in front of it is the home folder."""


@dataclass(frozen=True)
class Output:
    """The mark of a path that a command writes to: a file, a folder, or either."""

    kind: Literal["file", "folder", "either"] = "either"

    def problem(self, path: Path) -> str:
        """The reason why nothing can be written to a path; empty if something can."""
        path = path.expanduser()
        there = next(one for one in (path, *path.absolute().parents) if one.exists())
        if there != path and not there.is_dir():
            return f"{there} is a file; choose another place"
        if there == path and self.kind == "file" and path.is_dir():
            return "is a folder; name a file in it"
        if there == path and self.kind == "folder" and not path.is_dir():
            return "is a file; name a folder"
        return "" if os.access(there, os.W_OK) else f"{there} cannot be written to; choose another place"


@dataclass_transform(frozen_default=True)
class Keys:
    """A node of the configuration, a dataclass: its fields are the keys, their annotations the kinds of the values."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True)(cls)


LEFT_OUT: Any = object()
"""The default of a key that its YAML leaves out: an argument of the node's constructor."""

_LARGE = 10**9
"""A bound above anything that is counted here; larger numbers are slips of the keyboard, and some overflow."""

Count = Annotated[int, Range(1, _LARGE)]
CountOrZero = Annotated[int, Range(0, _LARGE)]
"""A count that may be 0."""
Workers = Annotated[int, Range(0, 1024)]
"""Processes that read images; 0: the program itself."""
Steps = Annotated[int, Range(2, 10**6)]
"""Points of a time grid: its two ends at least."""
Pixels = Annotated[int, Range(1, 16384)]
Size = Pixels | tuple[Pixels, Pixels]
"""Pixels of a square, or (height, width)."""
Seed = Annotated[int, Range(0, 2**32 - 1)]
Positive = Annotated[float, Range(0, open_low=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(0, 1, open_low=True)]
Decay = Annotated[float, Range(0, 1, open_high=True)]
"""The decay of an average: the share that stays at each step."""
OutputFile = Annotated[Path, Output("file")]
OutputFolder = Annotated[Path, Output("folder")]
PathText = Annotated[str, IsPath()]
Weighted = str | dict[str, Positive]
"""A name, or several names and how often each is meant."""

_TRUE, _FALSE = ("true", "yes", "on", "y", "1"), ("false", "no", "off", "n", "0")


def read(value: Any, kind: Any) -> Any:
    """The value as one of that kind: ``1e3`` is the whole number 1000, ``off`` is false, ``~/x`` lies in the home.

    Text that spells a number counts as one where a number is meant; a number where text is meant is refused, since
    YAML has already lost how it was written (``2024_01`` is 202401).

    Raises:
        Mismatch: If the value is not of that kind.
    """
    origin = get_origin(kind)
    if origin is Annotated:
        base, *marks = get_args(kind)
        return _marked(read(value, base), marks)
    if origin in (Union, types.UnionType):
        return _read_any(value, get_args(kind))
    if origin is Literal:
        return _expect(value, isinstance(value, str) and value in get_args(kind))
    if origin in (list, tuple):
        return _read_items(value, get_args(kind), fixed=origin is tuple)
    if origin is dict:
        return _read_named(value, *get_args(kind))
    if kind is bool:
        return _read_bool(value)
    if kind in (int, float):
        return _read_number(value, kind)
    if kind is type(None):
        return _expect(value, value is None)
    return _expect(value, isinstance(value, kind))


def describe(kind: Any) -> str:
    """Describe a kind in words that go after "give"."""
    origin = get_origin(kind)
    if origin is Annotated:
        base, *marks = get_args(kind)
        ranges = [str(mark) for mark in marks if isinstance(mark, Range | Distinct)]
        return (
            "a path"
            if any(isinstance(mark, IsPath) for mark in marks)
            else " ".join([describe(base), *ranges])
        )
    if origin in (Union, types.UnionType):
        parts = [describe(part) for part in get_args(kind)]
        return f"{', '.join(parts[:-1])} or {parts[-1]}"
    if origin is Literal:
        *most, last = get_args(kind)
        return f"{', '.join(most)} or {last}" if most else last
    if origin is tuple and Ellipsis not in get_args(kind):
        parts = get_args(kind)
        return f"a list [{', '.join('abcdefgh'[: len(parts)])}], each {describe(parts[0])}"
    if origin in (list, tuple):
        return f"a list [a, b, …], each {describe(get_args(kind)[0])}"
    if origin is dict:
        return f"several as {{NAME: {describe(get_args(kind)[1])}, …}}"
    if isinstance(kind, type) and issubclass(kind, Keys):
        return "keys with values"
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        Path: "a path",
    }
    return "null" if kind is type(None) else names[kind]


def is_text(kind: Any) -> bool:
    """True where only text (or null) is meant, so that ``2024_01`` and ``a=b`` are to be taken as they stand."""
    origin = get_origin(kind)
    if origin is Annotated:
        return is_text(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return all(is_text(part) or part is type(None) for part in get_args(kind))
    return origin is Literal or kind is str


def _expect(value: Any, fits: bool) -> Any:
    if not fits:
        raise Mismatch
    return value


def _marked(value: Any, marks: list[Any]) -> Any:
    for mark in marks:
        if isinstance(mark, Range) and value not in mark:
            raise Mismatch
        if isinstance(mark, Distinct) and len(set(value)) < len(value):
            raise Mismatch
        if isinstance(mark, IsPath):
            if not value.strip() or "\0" in value:
                raise Mismatch
            value = os.path.expanduser(value)
    return value


def _read_any(value: Any, kinds: tuple[Any, ...]) -> Any:
    for kind in kinds:
        try:
            return read(value, kind)
        except Mismatch:
            continue
    raise Mismatch


def _read_items(value: Any, kinds: tuple[Any, ...], *, fixed: bool) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise Mismatch
    if not fixed or Ellipsis in kinds:
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise Mismatch
    return [read(item, kind) for item, kind in zip(value, kinds, strict=True)]


def _read_named(value: Any, names: Any, kind: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise Mismatch
    return {read(name, names): read(item, kind) for name, item in value.items()}


def _read_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower() if isinstance(value, int | str) else ""
    if word not in _TRUE + _FALSE:
        raise Mismatch
    return word in _TRUE


def _read_number(value: Any, kind: type) -> int | float:
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
        except ValueError:
            raise Mismatch from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Mismatch
    if kind is int and value != int(value):
        raise Mismatch
    return int(value) if kind is int else value
