"""The layout of ``--help``: required options first, each text in one piece, lines broken between words."""

import inspect
import shutil
import textwrap
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro


@cache
def prepare_help(options: type[Any]) -> None:
    """Order the options of a dataclass, and give tyro their texts.

    Required options come first, then the command's own, then those that it shares with others: tyro shows them in the
    order of the fields, and a class that inherits has its own ones last. Of an indented docstring tyro would keep the
    line breaks, beside what None means it would say ``(default: None)``, and before a kind ``{None}|``.
    """
    import docstring_parser

    owners = {
        field.name: next(cls for cls in options.__mro__ if field.name in inspect.get_annotations(cls))
        for field in fields(options)
    }
    options.__dataclass_fields__ = dict(
        sorted(
            options.__dataclass_fields__.items(),
            key=lambda item: _place(item[1], options.__mro__.index(owners[item[0]])),
        )
    )
    hints = get_type_hints(options, include_extras=True)
    for field in fields(options):
        owner = owners[field.name]
        params = docstring_parser.parse_from_object(owner).params
        text = next((param.description for param in params if param.arg_name == field.name), None)
        told = tyro.conf.arg(
            help=" ".join((text or "").split()),
            help_behavior_hint="" if field.default in (None, ()) else None,
            metavar=_metavar(hints[field.name]) if field.default is None else None,
        )
        owner.__annotations__[field.name] = Annotated[hints[field.name], told]


def description(options: type[Any]) -> str:
    """The class's docstring, as wide as the terminal; tyro keeps lines apart that begin with a space."""
    width = shutil.get_terminal_size().columns
    paragraphs = (inspect.getdoc(options) or "").split("\n\n")
    return "\n\n".join(
        textwrap.fill(" ".join(text.split()), width, subsequent_indent=" ") for text in paragraphs
    )


def _metavar(kind: Any) -> str:
    """The name of a kind of value in the help, such as ``INT``; that an option may be left out goes without saying."""
    if get_origin(kind) is Annotated:
        return _metavar(get_args(kind)[0])
    parts = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is tuple and Ellipsis in parts:
        one = _metavar(parts[0])
        return f"{one} [{one} ...]"
    if get_origin(kind) is Literal:
        return f"{{{','.join(parts)}}}"
    if get_origin(kind) is tuple:
        return " ".join(map(_metavar, parts))
    return "|".join(map(_metavar, parts)) if parts else kind.__name__.upper()


def _place(field: Field[Any], distance: int) -> tuple[bool, int]:
    """Required options first, shared ones (the checkpoint) before the command's; of the others its own come first."""
    return (False, -distance) if _is_required(field) else (True, distance)


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
