"""``python src/compare_run.py --run DIR``: does a run look like healthy ones, or like another run?"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app.config.schema.kinds import OutputFile
from unirae.app.shell import cli
from unirae.app.shell.options import parse
from unirae.core.errors import UserError
from unirae.core.names import count_of

if TYPE_CHECKING:
    from unirae.evaluation.health.check import ColumnHealth, Curves

INSIDE, LEFT, NOT_COMPARABLE = 0, 1, 3
"""Exit statuses; 2 is a mistake on the command line."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Overlay a run's curves with those of healthy runs, or of another run, and say where it left their band.

    Exit status: 0 inside the band, 1 outside at some step, 3 no verdict because the runs' settings differ, 2 bad input.
    """

    run: Path
    """The folder of a run, finished or not, or its csv/metrics.csv."""
    reference: str | None = None
    """An experiment whose curves come with the package (mae_tiny, rae_tiny, dit_tiny), a file of curves, the folder of
    another run, or a metrics.csv. Default: the run's own experiment."""
    output: OutputFile | None = None
    """The picture to write. Default: compare.png in the run's folder."""
    epochs_to: tuple[str, ...] = ()
    """Instead of curves, the epochs that stage 2 took to a score, SCORE=VALUE such as fid=2: by the scores that it
    stored while it trained, without guidance, linear between two; with --reference the folder of a run, of both."""


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """The logged rows of a run, with its settings and its experiment where they lie beside them."""

    folder: Path
    rows: list[dict[str, str]]
    settings: Mapping[str, Any]
    experiment: str | None

    @property
    def last_step(self) -> int:
        """The last step that was logged."""
        return int(self.rows[-1]["step"])


def main() -> int:
    """Parse, compare, and turn mistakes into one line."""
    options, statuses = parse(Options), []
    return cli.run(lambda: statuses.append(run(options))) or statuses[0]


def run(options: Options) -> int:
    """Draw the picture, show the table, say the verdict; returns the exit status."""
    from unirae.app.pictures.compare_plot import draw_comparison
    from unirae.core.io import write_atomically
    from unirae.evaluation.health.check import judge, read_series

    if options.epochs_to:
        show_epochs(options)
        return INSIDE
    mine = open_run(options.run)
    curves = find_reference(options.reference, mine)
    health = judge(mine.rows, curves)
    if not health:
        raise UserError(nothing_to_judge(mine, curves))
    png = draw_comparison(curves, read_series(mine.rows), run_name=mine.folder.name)
    output = write_atomically(options.output or mine.folder / "compare.png", lambda file: file.write(png))
    status, lines = verdict(mine, curves, health)
    _show(health, lines, output)
    return status


def show_epochs(options: Options) -> None:
    """Print the epochs that the run, and the other one, took to each score.

    Raises:
        UserError: If a score is no SCORE=VALUE, or a run's stored scores do not say.
    """
    from unirae.evaluation.results.epochs_to import epochs_to

    wanted = []
    for text in options.epochs_to:
        score, _, value = text.partition("=")
        try:
            wanted.append((score, float(value)))
        except ValueError:
            raise UserError(f"--epochs_to {text}: give SCORE=VALUE, such as fid=2") from None
    folders = [options.run, *([] if options.reference is None else [Path(options.reference)])]
    lines = [f"{folder}: {epochs_to(folder, *one)}" for folder in folders for one in wanted]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def open_run(path: Path) -> LoggedRun:
    """Read a run's folder, or a metrics file and what lies around it.

    Raises:
        UserError: If there is no such file, or if it is not the metrics file of a run.
    """
    from omegaconf import OmegaConf

    from unirae.app.run.deciding import deciding_settings
    from unirae.training.csv_logger import read_metrics

    file = path if path.is_file() else path / "csv/metrics.csv"
    if not file.is_file():
        raise UserError(
            f"no {file}: give the folder of a run, or its metrics.csv (logger.csv=true writes it)"
        )
    try:
        with open(file) as opened:
            columns = opened.readline().strip().split(",")
        rows = read_metrics(file)
    except UnicodeDecodeError:
        raise UserError(f"{file} is not a text file; give the folder of a run, or its metrics.csv") from None
    if "step" not in columns:
        raise UserError(f"{file} has no column `step`, so it is not a metrics.csv of a run")
    if not rows:
        raise UserError(f"{file} has no rows yet")
    folder = file.parent.parent if file.parent.name == "csv" else file.parent
    config, experiment = folder / "config.yaml", folder / "experiment"
    saved: Any = OmegaConf.to_container(OmegaConf.load(config)) if config.is_file() else {}
    return LoggedRun(
        folder=folder,
        rows=rows,
        settings=deciding_settings(saved),
        experiment=experiment.read_text().strip() if experiment.is_file() else None,
    )


def find_reference(reference: str | None, mine: LoggedRun) -> "Curves":
    """The curves to compare with; another run is a reference of one.

    Raises:
        UserError: If neither known curves nor a run nor a file has this name.
    """
    from unirae.evaluation.health.bands import window_of
    from unirae.evaluation.health.check import Curves, read_series
    from unirae.evaluation.health.curve_files import known_curves, read_curves

    known = known_curves()
    if reference is None and mine.experiment not in known:
        raise UserError(
            f"{mine.folder} is a run of {mine.experiment or 'an unknown experiment'}, whose curves do not come with "
            f"the package; give --reference: one of {', '.join(known)}, or another run's folder"
        )
    name = str(reference or mine.experiment)
    if name in known or name.endswith(".json"):
        return read_curves(name)
    if not Path(name).exists():
        raise UserError(
            f"--reference {name}: neither a folder nor a file, and no known curves; known are {', '.join(known)}"
        )
    other = open_run(Path(name))
    series = read_series(other.rows)
    return Curves(name=name, runs=[series], window_steps=window_of(series), settings=other.settings)


def nothing_to_judge(mine: LoggedRun, curves: "Curves") -> str:
    """The reason why no column could be compared."""
    if not curves.bands:
        return f"the reference {curves.name} has too few rows to make a band of"
    shared = [column for column in curves.bands if any(row.get(column) for row in mine.rows)]
    if not shared:
        return f"{mine.folder} and {curves.name} have no column in common; were they logged by the same kind of run?"
    first = min(curves.bands[column].steps[0] for column in shared)
    last = max(curves.bands[column].steps[-1] for column in shared)
    return (
        f"{mine.folder} has {count_of(len(mine.rows), 'row')}, to step {mine.last_step}: too few to judge. The "
        f"curves of {curves.name} are compared from step {first} to {last}, each column after "
        f"{curves.window_steps} steps of its own"
    )


def verdict(mine: LoggedRun, curves: "Curves", health: "Sequence[ColumnHealth]") -> tuple[int, list[str]]:
    """(exit status, what to tell the user)."""
    from unirae.app.run.deciding import differing_settings
    from unirae.evaluation.health.causes import usual_causes

    lines = [f"the run is at step {mine.last_step}; smoothed by the median of {curves.window_steps} steps"]
    lines += _cautions(mine, curves, health)
    if differing := differing_settings(mine.settings, curves.settings):
        lines += [
            "NO VERDICT: these settings differ, so the band is not this run's",
            *(f"  {d}" for d in differing),
        ]
        return NOT_COMPARABLE, lines
    left = sorted((h.left for h in health if h.left), key=lambda judgement: judgement.step)
    if not left:
        return INSIDE, [*lines, f"INSIDE the band of {curves.name} in all {len(health)} columns"]
    lines.append(
        f"LEFT the band of {curves.name} in {len(left)} of {len(health)} columns. Where to look first:"
    )
    causes: dict[str, list[str]] = {}
    for j in left:
        causes.setdefault(usual_causes(j.column, above=not j.value < j.low), []).append(j.column)
    lines += [f"  {', '.join(columns)}: {cause}" for cause, columns in causes.items()]
    return LEFT, lines


def _cautions(mine: LoggedRun, curves: "Curves", health: "Sequence[ColumnHealth]") -> list[str]:
    """Remarks on what weakens a comparison."""
    lines = []
    if len(curves.runs) == 1:
        lines.append(
            "the reference is one run: how far seeds differ is unknown, its band is the noise of its own values"
        )
    if missing := [c for c in curves.bands if c not in {h.column for h in health}]:
        lines.append(f"not compared, because the run has not logged them (enough): {', '.join(missing)}")
    if not mine.settings or not curves.settings:
        lines.append("no config.yaml beside the metrics: whether the settings agree was not checked")
    elif unchecked := sorted(curves.settings.keys() ^ mine.settings.keys()):
        some = ", ".join(unchecked[:3]) + (", …" if len(unchecked) > 3 else "")
        lines.append(f"{len(unchecked)} settings are known of one side only and were not compared: {some}")
    return lines


def _show(health: "Sequence[ColumnHealth]", lines: Sequence[str], output: Path) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(Column("column", no_wrap=True), "step", "value", "band", "", box=None)
    for column in health:
        last = column.last
        state = "inside" if last.inside else "outside"
        if column.left:
            state += f", since {column.left.step}" if not last.inside else f", not at {column.left.step}"
        band = f"{last.low:.4g} to {last.high:.4g}"
        table.add_row(column.column, str(last.step), f"{last.value:.4g}", band, state)
    console = Console()
    console.print(table)
    for line in [*lines, f"picture: {output}"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
