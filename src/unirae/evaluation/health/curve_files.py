"""Curves as files: one JSON for each experiment whose healthy runs are known, made by tools/health_curves.py."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unirae.core.errors import UserError
from unirae.core.io import read_json, write_atomically
from unirae.evaluation.health.bands import Series
from unirae.evaluation.health.check import NOT_CURVES, Curves

FOLDER = Path(__file__).parent / "curves"
"""Folder of the curves that come with the package."""
_DIGITS = 4
_LIST = re.compile(r"\[[^\[\]{}]*\]")


def known_curves() -> list[str]:
    """The experiments whose curves come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_curves(name: str) -> Curves:
    """The curves of an experiment, or of a file.

    Raises:
        UserError: If ``name`` is neither a known name nor a file, or a file of another kind.
    """
    path = FOLDER / f"{name}.json"
    if name not in known_curves():
        path = Path(name)
        if not path.is_file():
            raise UserError(
                f"no curves {name}: known are {', '.join(known_curves())}, or give a file of curves"
            )
    content = read_json(path)
    try:
        return Curves(
            name=content["name"],
            runs=[_series(run["columns"]) for run in content["runs"]],
            window_steps=content["window_steps"],
            settings=content["settings"],
        )
    except (KeyError, TypeError):
        raise UserError(f"{path} is not a file of curves; tools/health_curves.py makes them") from None


def write_curves(
    path: str | Path, curves: Curves, *, origins: Sequence[Mapping[str, Any]], machine: str
) -> Path:
    """Write curves with the record of each run, and of the machine that they were made on."""
    content = {
        "name": curves.name,
        "machine": machine,
        "window_steps": curves.window_steps,
        "settings": curves.settings,
        "runs": [
            {**origin, "columns": _columns(run)} for origin, run in zip(origins, curves.runs, strict=True)
        ],
    }
    text = _LIST.sub(lambda found: re.sub(r"\s+", " ", found[0]), json.dumps(content, indent=1)) + "\n"
    return write_atomically(path, lambda file: file.write(text.encode()))


def _columns(series: Series) -> dict[str, dict[str, list[float]]]:
    return {
        column: {
            "steps": [step for step, _ in points],
            "values": [float(f"{value:.{_DIGITS}g}") for _, value in points],
        }
        for column, points in series.items()
        if column not in NOT_CURVES
    }


def _series(columns: Mapping[str, Any]) -> Series:
    return {
        name: list(zip(column["steps"], column["values"], strict=True)) for name, column in columns.items()
    }
