"""Mistakes in the options of a command, in one line each: tyro's own messages are boxes of many lines."""

import re
from collections.abc import Sequence
from dataclasses import MISSING, fields
from functools import reduce
from operator import or_
from typing import Any, get_args, get_type_hints

from unirae.app.schema.kinds import Mismatch, describe, read
from unirae.app.schema.names import meant, nearest

_NONE = type(None)


def wrong_values(options: Any) -> list[str]:
    """What is out of its range among parsed options: ``--num_steps 0: give a whole number from 2 up``."""
    wrong = []
    for flag, (name, kind) in _flags(type(options)).items():
        value = getattr(options, name)
        try:
            read(value, kind)
        except Mismatch:
            shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
            wrong.append(f"{flag} {shown}: give {_meant_by(kind)}")
    return wrong


def explain(said: str, options: type[Any], words: Sequence[str]) -> str:
    """What tyro refuses, in one line.

    Args:
        said: its message.
        options: the dataclass of the options.
        words: of the command line.
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
    problems += [
        f"{flag} is missing" for flag in _required(options) if "Missing from" in said and flag not in given
    ]
    return "; ".join(problems) or _text(said)


def _of_value(flag: str, kind: Any, words: Sequence[str]) -> str:
    text = " ".join(words)
    after = re.search(rf"{flag.replace('_', '[-_]')}(?:[ =]|$)(.*?)(?= --|$)", text)
    value = after[1] if after else ""
    choices = [name for part in (kind, *get_args(kind)) for name in get_args(part) if isinstance(name, str)]
    found = meant(nearest(value, choices))
    return f"{flag} {value}".strip() + f": give {_meant_by(kind)}" + (f"; {found}" if found else "")


def _meant_by(kind: Any) -> str:
    """What is to be given; that an option may be left out goes without saying."""
    parts = [part for part in get_args(kind) if part is not _NONE] if _NONE in get_args(kind) else [kind]
    return describe(reduce(or_, parts))


def _flags(options: type[Any]) -> dict[str, tuple[str, Any]]:
    """(name of the field, kind) of each option by its flag."""
    kinds = get_type_hints(options, include_extras=True)
    return {f"--{field.name.rstrip('_')}": (field.name, kinds[field.name]) for field in fields(options)}


def _required(options: type[Any]) -> list[str]:
    return [
        f"--{field.name.rstrip('_')}"
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
