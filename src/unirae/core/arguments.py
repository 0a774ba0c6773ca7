"""The words of the user for an argument, in errors and lines of the log.

Below ``app`` a message names an argument by its owner and its name, ``denoiser.num_heads``. Who calls from Python reads
``num_heads=5``; a command or a run says with :func:`called` what its own user calls it, and the same message speaks of
``model.dit.num_heads=5`` or ``--rae PATH``. In backticks a message may hold a whole command line, for any user to type.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_names: dict[str, str] = {}  # of the process, so that all threads speak alike


@contextmanager
def called(names: Mapping[str, str]) -> Iterator[None]:
    """Give arguments these names within the context; what is not among ``names`` keeps its name.

    Args:
        names: what the user calls an argument (``"rae": "--rae"``) or one with a value
            (``"source.labels=false": "--flat"``), and what precedes those of an owner (``"denoiser.": "model.dit."``).
    """
    global _names
    before, _names = _names, {**_names, **names}
    try:
        yield
    finally:
        _names = before


def argument(name: str, *value: object) -> str:
    """Name an argument as the user knows it: ``num_heads``, ``model.dit.num_heads=5``, ``--rae PATH``.

    Args:
        name: the argument, behind its owner and a dot if it has one.
        value: at most one, to be shown with it.
    """
    owner, dot, own = name.partition(".")
    own = own if dot else name
    known = _names.get(name) or (_names[owner + dot] + own if dot and owner + dot in _names else None)
    if not value:
        return known or own
    if known is None:
        return f"{own}={value[0]}"
    shown = {"True": "true", "False": "false", "None": "null"}.get(str(value[0]), value[0])
    return _names.get(f"{name}={shown}") or f"{known}{' ' if known.startswith('--') else '='}{shown}"
