"""The layout of ``--help``: required options first, each text in one piece, lines broken between words."""

import inspect
import shutil
import textwrap
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Annotated, Any, get_type_hints

import tyro


@cache
def prepare_help(options: type[Any]) -> None:
    """Order the options of a dataclass, and give tyro their texts.

    Options are shown in the order of the fields, and a class that inherits has its own ones last. Of an indented
    docstring tyro would keep the line breaks, and beside what None means it would say ``(default: None)``.
    """
    import docstring_parser

    ordered = sorted(options.__dataclass_fields__.items(), key=lambda item: not _is_required(item[1]))
    options.__dataclass_fields__ = dict(ordered)
    hints = get_type_hints(options, include_extras=True)
    for field in fields(options):
        owner = next(cls for cls in options.__mro__ if field.name in inspect.get_annotations(cls))
        params = docstring_parser.parse_from_object(owner).params
        text = next((param.description for param in params if param.arg_name == field.name), None)
        told = tyro.conf.arg(
            help=" ".join((text or "").split()), help_behavior_hint="" if field.default is None else None
        )
        owner.__annotations__[field.name] = Annotated[hints[field.name], told]


def description(options: type[Any]) -> str:
    """The class's docstring, as wide as the terminal; tyro keeps lines apart that begin with a space."""
    width = shutil.get_terminal_size().columns
    paragraphs = (inspect.getdoc(options) or "").split("\n\n")
    return "\n\n".join(
        textwrap.fill(" ".join(text.split()), width, subsequent_indent=" ") for text in paragraphs
    )


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
