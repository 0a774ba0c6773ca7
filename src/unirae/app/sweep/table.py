"""The points of a sweep as a table: CSV for programs, Markdown for documents, and the console."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unirae.evaluation.results.guidance_grid import Scored

AXES = {
    "cfg_scale": "cfg",
    "guidance_interval": "interval",
    "ig_scale": "ig",
    "ig_interval": "ig interval",
    "solver": "solver",
    "num_steps": "steps",
    "weights": "weights",
}
"""Columns of the CSV for the axes of the grid, and what they are called for readers."""
_INTERNAL = ("ig_scale", "ig_interval")


def as_csv(scored: "Sequence[Scored]") -> str:
    """One row for each point; each score is followed by its standard error, empty where unknown."""
    import csv
    import io

    names = list(scored[0].result.metrics)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    errors = [column for name in names for column in (name, f"{name}_standard_error")]
    writer.writerow([*AXES, "network_evaluations", "count", *errors, "file"])
    for s in scored:
        values = [v for name in names for v in (s.result.metrics[name], s.result.standard_error(name))]
        row = [*_axes(s).values(), _evaluations(s), s.result.count, *values, s.result.file.name]
        writer.writerow(["" if cell is None else cell for cell in row])
    return text.getvalue()


def as_markdown(scored: "Sequence[Scored]") -> str:
    """The table in Markdown; the best value of each score is bold, and remarks follow."""
    from unirae.evaluation.results.guidance_grid import remarks

    header, rows = table(scored, mark="**")
    cells = [header, ["---"] * len(header), *rows]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    said = [f"- {remark}" for name in scored[0].result.metrics for remark in remarks(scored, name)]
    return "\n".join([*lines, *([""] if said else []), *said]) + "\n"


def show(scored: "Sequence[Scored]", folder: Path) -> None:
    """Show the table on the console, the best point of each score, and remarks."""
    from rich.console import Console
    from rich.table import Table

    from unirae.evaluation.results.guidance_grid import best, remarks

    console = Console(markup=False, highlight=False)
    header, rows = table(scored, mark="*")
    shown = Table(*header, title=f"{scored[0].result.count} samples at each point")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    for name in scored[0].result.metrics:
        console.print(f"best {_quoted(scored, name)}: {best(scored, name).point}")
        for remark in remarks(scored, name):
            console.print(f"- {remark}")
    console.print(f"tables and plot: {folder}", soft_wrap=True)


def table(scored: "Sequence[Scored]", *, mark: str) -> tuple[list[str], list[list[str]]]:
    """The header and the rows; ``mark`` stands on both sides of each score's best value."""
    from unirae.evaluation.results.guidance_grid import best

    names = list(scored[0].result.metrics)
    tops = {name: best(scored, name) for name in names}
    internal = any(s.point.ig_scale != 1.0 for s in scored)
    axes = [axis for axis in AXES if internal or axis not in _INTERNAL]
    header = [*(AXES[axis] for axis in axes), "evaluations"]
    rows = []
    for s in scored:
        scores = [_with_error(s, name, mark if s is tops[name] else "") for name in names]
        rows.append([*(str(_axes(s)[axis]) for axis in axes), str(_evaluations(s)), *scores])
    return [*header, *(_quoted(scored, name) for name in names)], rows


def _axes(scored: "Scored") -> dict[str, str | int]:
    point = scored.point
    texts = {"guidance_interval": point.interval_text, "ig_interval": point.ig_interval_text}
    scales = {scale: f"{getattr(point, scale):g}" for scale in ("cfg_scale", "ig_scale")}
    return {axis: texts.get(axis) or scales.get(axis) or getattr(point, axis) for axis in AXES}


def _evaluations(scored: "Scored") -> str:
    """The network's evaluations for an image; fewest to most where the solver chooses."""
    return "-".join(map(str, scored.result.settings.get("network_evaluations", [])))


def _quoted(scored: "Sequence[Scored]", name: str) -> str:
    return scored[0].result.labels.get(name, name)


def _with_error(scored: "Scored", name: str, mark: str) -> str:
    error = scored.result.standard_error(name)
    value = f"{mark}{scored.result.metrics[name]:.5g}{mark}"
    return value if error is None else f"{value} ± {error:.2g}"
