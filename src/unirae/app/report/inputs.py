"""What the report reads from the demo's folder: scores, logged curves, configurations, samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirae.app.report.plots import Rows
from unirae.app.report.scores import ScoredModel
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
    def batch_size(self) -> int:
        """Images per step."""
        return int(self.config.data.global_batch_size)

    @property
    def samples(self) -> list[Path]:
        """``samples/step-*.png``, oldest first."""
        return sorted((self.folder / "samples").glob("step-*.png"))

    def first_step(self, column: str) -> int | None:
        """The first step at which a column was logged."""
        return next((int(row["step"]) for row in self.rows if row.get(column)), None)

    def typical(self, column: str) -> float | None:
        """The median of a logged column: robust against other programs on the machine."""
        values = sorted(float(row[column]) for row in self.rows if row.get(column))
        return values[len(values) // 2] if values else None


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What was measured of the samples."""

    count: int
    """Images of each candidate."""
    class_names: tuple[str, ...]
    candidates: tuple[ScoredModel, ...]
    """``real``, ``reconstructed``, ``samples``, ``noise``, ``mislabelled``."""
    by_chance: dict[str, list[float]]
    """Fréchet scores of real pictures in other random splits."""
    standard_errors: dict[str, float]
    """Of the shares that the classifier assigned to the wanted class."""
    confusion: dict[str, list[list[int]]]
    """Of ``real`` and ``samples``: ``[wanted][assigned]``."""
    copies: dict[str, float]
    sampler: dict[str, Any]
    settings: dict[str, Any]
    """Everything else that was recorded."""

    def score(self, key: str, name: str) -> float | None:
        """A candidate's score, if it was measured."""
        return next((one.scores.get(name) for one in self.candidates if one.key == key), None)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Everything on the page comes from here."""

    folder: Path
    data: dict[str, Any]
    count: int
    """Held-out images behind every score."""
    models: tuple[ScoredModel, ...]
    """The first is the demo's RAE; the others stand beside it for comparison."""
    settings: dict[str, Any]
    seconds: dict[str, float]
    parameters: dict[str, int]
    machine: dict[str, Any]
    runs: dict[str, Run]
    """By folder name: encoder, rae, random_encoder, dit."""
    generation: Generation | None

    @property
    def pictures(self) -> Path:
        """Where the PNGs lie."""
        return self.folder / "pictures"

    def model(self, key: str) -> ScoredModel | None:
        """The scored model with this key, if it was measured."""
        return next((model for model in self.models if model.key == key), None)


RUNS = ("encoder", "rae", "random_encoder", "dit")


def read_demo(folder: Path) -> Demo:
    """Read the folder; a run that is not there is left out.

    Raises:
        UserError: ``scores.json`` is missing or incomplete.
    """
    scores = read_json(folder / "scores.json")
    try:
        return Demo(
            folder=folder,
            data=scores["data"],
            count=scores["count"],
            models=tuple(ScoredModel(**row) for row in scores["rows"]),
            settings=scores["settings"],
            seconds=scores["seconds"],
            parameters=scores.get("parameters", {}),
            machine=scores["machine"],
            runs={name: _read_run(folder / name) for name in RUNS if _is_run(folder / name)},
            generation=_read_generation(scores["generation"]) if scores.get("generation") else None,
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / 'scores.json'} is not what `unirae demo` writes ({error}); remove it and run it again"
        ) from None


def _read_generation(content: dict[str, Any]) -> Generation:
    classifier = dict(content["classifier"])
    return Generation(
        count=content["count"],
        class_names=tuple(content["class_names"]),
        candidates=tuple(ScoredModel(**row) for row in content["rows"]),
        by_chance=content["by_chance"],
        standard_errors=classifier.pop("standard_errors"),
        confusion=classifier.pop("confusion"),
        copies=content["copies"],
        sampler=content["sampler"],
        settings={
            "class_counts": content["class_counts"],
            "classifier": classifier,
            "generator": content["generator"],
            "features": content["extractor"],
            "reference": content["reference"],
        },
    )


def _is_run(folder: Path) -> bool:
    return (folder / "csv/metrics.csv").is_file() and (folder / "config.yaml").is_file()


def _read_run(folder: Path) -> Run:
    from omegaconf import OmegaConf

    from unirae.training.csv_logger import read_metrics

    rows = read_metrics(folder / "csv/metrics.csv")
    if not rows:
        raise UserError(f"{folder / 'csv/metrics.csv'} has no rows; remove {folder} and run the demo again")
    return Run(folder=folder, rows=rows, config=OmegaConf.load(folder / "config.yaml"))
