"""``python src/compare.py A.json B.json``: two results side by side, and whether their difference counts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from unirae.app.config.schema.kinds import OutputFile
from unirae.app.shell.options import command

if TYPE_CHECKING:
    from rich.table import Table

    from unirae.evaluation.results.comparison import Comparison, ScoreComparison


@dataclass(frozen=True, kw_only=True)
class Options:
    """Is the difference of two results larger than chance, and may they be compared at all?

    Takes files of evaluate.py, eval_fid.py, eval_rfid.py and eval_linear_probe.py. For each score it says which is
    better, or that the difference is within the noise, or why the two cannot be compared: another crop, size,
    reference, label sampling, count, feature network. Then it lists the other settings that differ.
    """

    a: Positional[Path]
    """The JSON file of the first result."""
    b: Positional[Path]
    """The JSON file of the second result."""
    output: OutputFile | None = None
    """Also write the comparison to this JSON file."""


def run(options: Options) -> "Comparison":
    """Compare two results, show the comparison, and write it if asked for."""
    from unirae.core.io import write_json
    from unirae.evaluation.results.comparison import compare
    from unirae.evaluation.results.result_file import read_result

    comparison = compare(read_result(options.a), read_result(options.b))
    show(comparison)
    if options.output is not None:
        write_json(options.output, comparison.as_record())
    return comparison


main = command(Options, run)


def show(comparison: "Comparison") -> None:
    """Print the scores with their verdicts and reasons, the settings that differ, and remarks."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    console.print(f"A: {comparison.a.file}\nB: {comparison.b.file}", soft_wrap=True)
    console.print(_score_table(comparison))
    for line in _lines(comparison):
        console.print(f"- {line}")
    if comparison.differences:
        console.print("other settings that differ:")
        console.print(_difference_table(comparison))


def _score_table(comparison: "Comparison") -> "Table":
    from rich.table import Table

    table = Table("score", "A", "B", "B - A", "noise (2σ)", "verdict")
    for score in comparison.scores:
        label = comparison.a.labels.get(score.name, score.name)
        same = label == comparison.b.labels.get(score.name, score.name)
        noise = "" if score.noise is None else f"{score.noise:.2g}"
        table.add_row(
            label if same else score.name,
            _with_error(comparison.a, score.name),
            _with_error(comparison.b, score.name),
            f"{score.difference:+.3g}",
            noise,
            score.outcome,
        )
    return table


def _with_error(result: Any, name: str) -> str:
    error = result.standard_error(name)
    return f"{result.metrics[name]:.5g}" + ("" if error is None else f" ± {error:.2g}")


def _lines(comparison: "Comparison") -> list[str]:
    lines = []
    for outcome, why, names in _grouped(comparison.scores):
        lines.append(f"{', '.join(names)}, {outcome}: {'; '.join(why)}")
    for name, remark in ((s.name, remark) for s in comparison.scores for remark in s.remarks):
        lines.append(f"{name}: {remark}")
    for side, names in (("A", comparison.only_in_a), ("B", comparison.only_in_b)):
        if names:
            lines.append(f"only in {side}: {', '.join(names)}")
    return [*lines, *comparison.remarks, *_warnings(comparison)]


def _warnings(comparison: "Comparison") -> list[str]:
    a, b = comparison.a.warnings, comparison.b.warnings
    return [
        *(f"of {'both' if warning in b else 'A'}: {warning}" for warning in a),
        *(f"of B: {warning}" for warning in b if warning not in a),
    ]


def _grouped(scores: "list[ScoreComparison]") -> list[tuple[str, list[str], list[str]]]:
    """Outcomes with their reasons, each with all the scores that it holds for."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for score in scores:
        if score.why:
            found.setdefault((score.outcome, tuple(score.why)), []).append(score.name)
    return [(outcome, list(why), names) for (outcome, why), names in found.items()]


def _difference_table(comparison: "Comparison") -> "Table":
    from rich.table import Table

    from unirae.core.differences import shortened

    table = Table("setting", "A", "B")
    for different in comparison.differences:
        table.add_row(different.name, shortened(different.first), shortened(different.second))
    return table
