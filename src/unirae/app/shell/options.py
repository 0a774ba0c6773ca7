"""Command-line types that the commands share."""

import io
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from unirae.app.shell import cli
from unirae.app.shell.argument_names import NAMES
from unirae.app.shell.option_help import description, prepare_help

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def _parse_bool(words: list[str]) -> bool:
    try:
        return _BOOLEANS[words[0].lower()]
    except KeyError:
        raise ValueError(f"{words[0]!r} is neither true nor false") from None


Switch = Annotated[
    bool,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{true,false}",
        instance_from_str=_parse_bool,
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: [str(value).lower()],
    ),
]
"""A truth value that is spelled out, as in ``--use_ema false``."""

Flag = Annotated[
    bool,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[{true,false}]",
        instance_from_str=lambda words: _parse_bool(words or ["true"]),
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: [str(value).lower()],
    ),
]
"""A truth value that is off unless named, as in ``--npz``; ``--npz false`` is understood too."""


def parse(options: type[Any]) -> Any:
    """The command line as an instance of a dataclass of options, with underscores in its flags.

    A ``~`` that starts a path is the home folder, also in ``--output=~/x``, which shells hand over as it is. A mistake
    is one line on stderr and exit status 2.
    """
    from unirae.app.shell.option_errors import explain

    prepare_help(options)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            found = tyro.cli(
                options,
                description=description(options),
                use_underscores=True,
                config=(tyro.conf.FlagConversionOff,),
            )
        if wrong := _wrong_values(found):
            sys.stderr.write(f"error: {'; '.join(wrong)}\n")
            raise SystemExit(2)
        return _at_home(found)
    except SystemExit as stop:
        if text := said.getvalue():
            sys.stderr.write(f"error: {explain(text, options, sys.argv[1:])}\n" if stop.code == 2 else text)
        raise
    except BrokenPipeError:  # who reads --help has seen enough: `… --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
        raise SystemExit(0) from None


def command(
    options: type[Any], run: Callable[[Any], Any], *, kept: str = "", names: Mapping[str, str] = NAMES
) -> Callable[[], int]:
    """The ``main`` of a command: it parses the command line, does the work, and turns mistakes into one line.

    Args:
        options: the dataclass of the command's options.
        run: the work, called with an instance of ``options``.
        kept: a line for after an interrupt: what stays, and how to go on; ``{output}`` is the value of that option.
        names: the command's names of the arguments of layers below, see :mod:`unirae.core.arguments`.
    """

    def main() -> int:
        given = parse(options)
        return cli.run(lambda: run(given), kept=kept.format_map(vars(given)), names=names)

    return main


def _wrong_values(found: Any) -> list[str]:
    from unirae.app.shell.option_errors import wrong_values

    try:
        return wrong_values(found)
    except OSError as error:
        if problem := cli.path_problem(error):
            return [problem]
        raise


def _at_home(value: Any) -> Any:
    """The value with every path in it expanded, in dataclasses and sequences, too."""
    if isinstance(value, Path):
        return _expanded(value)
    if isinstance(value, list | tuple):
        return type(value)(_at_home(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return replace(value, **{name: _at_home(item) for name, item in given.items()})
    return value


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # ~name of nobody: a file may be called so
        return path
