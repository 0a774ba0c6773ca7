"""The report's inputs from the demo's folder: ``scores.json``, and each run's curves, settings and samples."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median_high
from typing import Any

from unirae.app.demo.parts import ALL_PARTS
from unirae.app.demo.report.scores import ScoredModel
from unirae.app.pictures.plots import Rows
from unirae.core.errors import UserError
from unirae.core.io import read_json


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished training run of the demo."""

    folder: Path
    rows: Rows
    config: Any
    """The resolved OmegaConf configuration."""

    @property
    def steps(self) -> int:
        """The last logged step."""
        return int(self.rows[-1]["step"])

    @property
    def samples(self) -> list[Path]:
        """The pictures ``samples/step-*.png``, oldest first."""
        return sorted((self.folder / "samples").glob("step-[0-9]*.png"))

    def setting(self, key: str) -> Any:
        """The value of a configuration key such as ``data.global_batch_size``; None if there is none."""
        from omegaconf import OmegaConf

        return OmegaConf.select(self.config, key)

    def first_step(self, column: str) -> int | None:
        """The first step at which a column was logged."""
        return next((int(row["step"]) for row in self.rows if row.get(column)), None)

    def typical(self, column: str) -> float | None:
        """The median of a logged column, which other programs on the machine hardly move."""
        values = [float(row[column]) for row in self.rows if row.get(column)]
        return median_high(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The content of the demo's folder."""

    folder: Path
    scores: dict[str, Any]
    """The content of ``scores.json``, with its ``rows`` and those of ``generation`` as :class:`ScoredModel`."""
    runs: dict[str, Run]
    """The runs of the demo's parts that are there, by folder name."""


def read_demo(folder: Path) -> Demo:
    """Read the demo's folder; a run that is not there is left out.

    Raises:
        UserError: If ``scores.json`` is missing or lacks its rows, or a run's metrics have no rows.
    """
    file = folder / "scores.json"
    scores = read_json(file)
    try:
        for part in (scores, scores["generation"]) if scores.get("generation") else (scores,):
            part["rows"] = [ScoredModel(**row) for row in part["rows"]]
    except (AttributeError, KeyError, TypeError) as error:
        raise incomplete(file, error) from None
    runs = {name: run for name in ALL_PARTS if (run := _read_run(folder / name))}
    return Demo(folder=folder, scores=scores, runs=runs)


def incomplete(file: Path, reason: Exception) -> UserError:
    """The error about a file of scores in which something is missing."""
    return UserError(f"{file} is not what `unirae demo` writes ({reason}); remove it and run it again")


def _read_run(folder: Path) -> Run | None:
    from omegaconf import OmegaConf

    from unirae.training.csv_logger import read_metrics

    metrics, config = folder / "csv/metrics.csv", folder / "config.yaml"
    if not (metrics.is_file() and config.is_file()):
        return None
    rows = read_metrics(metrics)
    if not rows:
        raise UserError(f"{metrics} has no rows; remove {folder} and run the demo again")
    return Run(folder=folder, rows=rows, config=OmegaConf.load(config))
