"""Mistakes in the options of a command, in one line each: tyro's own messages are boxes of many lines."""

import re
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import tyro

from unirae.app.config.schema.kinds import Mismatch, Output, describe, read
from unirae.app.config.schema.names import meant, nearest


def wrong_values(options: Any) -> list[str]:
    """Messages about parsed options that are out of range: ``--num_steps 0: give a whole number from 2 up``."""
    wrong = []
    for flag, (name, kind) in _flags(type(options)).items():
        value = getattr(options, name)
        shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
        try:
            read(value, kind)
        except Mismatch:
            wrong.append(f"{flag} {shown}: give {_meant_by(kind)}")
        for mark in _marks(kind):
            if isinstance(mark, Output) and isinstance(value, Path) and (problem := mark.problem(value)):
                wrong.append(f"{flag} {shown}: {problem}")
    return wrong


def explain(said: str, options: type[Any], words: Sequence[str]) -> str:
    """Explain in one line what tyro refuses.

    Args:
        said: tyro's message.
        options: the dataclass of the options.
        words: the words of the command line.
    """
    flags = _flags(options)
    given = [
        "--" + word[2:].split("=", 1)[0].replace("-", "_") for word in words if re.match("--[a-zA-Z]", word)
    ]
    problems = [
        f"{flag}: there is no such option; {meant(nearest(flag, list(flags))) or '--help lists the options'}"
        for flag in given
        if flag not in flags and flag != "--help"
    ]
    if (
        not problems
        and (found := re.search(r"(?:Error parsing|argument) '?(--\w+)", said))
        and found[1] in flags
    ):
        problems = [_of_value(found[1], flags[found[1]][1], words)]
    if "Missing from" in said:
        problems += [f"{word} is missing" for name in _required(options) for word in _as_said(name, said)]
    return "; ".join(problems) or _text(said)


def _of_value(flag: str, kind: Any, words: Sequence[str]) -> str:
    text = " ".join(words)
    after = re.search(rf"{flag.replace('_', '[-_]')}(?:[ =]|$)(.*?)(?= --|$)", text)
    value = after[1] if after else ""
    choices = [name for part in _alternatives(kind) for name in get_args(part) if isinstance(name, str)]
    found = meant(nearest(value, choices))
    return f"{flag} {value}".strip() + f": give {_meant_by(kind)}" + (f"; {found}" if found else "")


def _meant_by(kind: Any) -> str:
    """The kind of value to give, in words; that an option may be left out goes without saying."""
    if tyro.conf.UseAppendAction in _marks(kind):
        kind = get_args(get_args(kind)[0])[0]  # given several times, with one value each
    parts = [part for part in _alternatives(kind) if part is not type(None)]
    return describe(Union[tuple(parts)])  # noqa: UP007 - of a tuple


def _alternatives(kind: Any) -> list[Any]:
    """The parts of a union, also of an annotated one; any other kind stands alone."""
    if get_origin(kind) is Annotated and get_origin(get_args(kind)[0]) in (Union, UnionType):
        kind = get_args(kind)[0]
    return list(get_args(kind)) if get_origin(kind) in (Union, UnionType) else [kind]


def _marks(kind: Any) -> list[Any]:
    return [
        mark for part in _alternatives(kind) if get_origin(part) is Annotated for mark in get_args(part)[1:]
    ]


def _flags(options: type[Any]) -> dict[str, tuple[str, Any]]:
    """The options by their flags, each as (name of the field, kind)."""
    kinds = get_type_hints(options, include_extras=True)
    return {f"--{field.name.rstrip('_')}": (field.name, kinds[field.name]) for field in fields(options)}


def _as_said(name: str, said: str) -> list[str]:
    """The name that tyro gives a missing field: its flag, or its place."""
    return re.findall(rf"(?<![\w-])(?:--{name}|{name.upper()})(?!\w)", said)[:1]


def _required(options: type[Any]) -> list[str]:
    return [
        field.name.rstrip("_")
        for field in fields(options)
        if field.default is MISSING and field.default_factory is MISSING
    ]


def _text(said: str) -> str:
    """The first paragraph of a box."""
    lines = [line.strip("│ ").strip() for line in said.splitlines() if not line.startswith(("╭", "╰"))]
    kept = []
    for line in lines:
        if not line or set(line) == {"─"}:
            break
        kept.append(line)
    return " ".join(kept) or " ".join(said.split())
