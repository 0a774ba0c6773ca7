"""Is a run healthy? Curves of earlier runs, and where another run leaves the band around them (:mod:`.bands`)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from unirae.core.errors import UserError
from unirae.evaluation.health.bands import Band, Series, Window, make_band

NOT_CURVES = ("train/lr", "train/disc_lr", "train/images_per_s", "train/time_left_s")
"""Columns that say nothing of health: a run's own settings, and how fast the machine was."""
NOT_JUDGED = ("val/rfd_", "val/fd_")
"""Beginnings of scores in the features of a run's own encoder, which was trained too: another one has another scale."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A smoothed value beside its band."""

    column: str
    step: int
    value: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """True where the value is within the band; False for a value that is not finite, too."""
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        return f"{self.value:.4g} at step {self.step}, where the band is {self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True, kw_only=True)
class ColumnHealth:
    """Health of a column."""

    column: str
    last: Judgement
    left: Judgement | None
    """The first judgement outside of the band; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Curves that runs of one experiment logged, and the settings of those runs.

    Attributes:
        name: of the experiment.
        runs: one for each seed.
        window_steps: over how many steps values are smoothed.
        settings: what decides what the curves look like; a run with others is not to be compared.
    """

    name: str
    runs: Sequence[Series]
    window_steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The columns that every run has, finite somewhere."""
        kept = [column for column in self.runs[0] if column not in NOT_CURVES]
        for run in self.runs:
            kept = [c for c in kept if any(math.isfinite(value) for _, value in run.get(c, ()))]
        return kept

    @cached_property
    def bands(self) -> dict[str, Band]:
        """Bands by column, of those that say something of other runs too and that last long enough."""
        bands = {
            column: make_band(column, [run[column] for run in self.runs], self.window_steps)
            for column in self.columns
            if not column.startswith(NOT_JUDGED)
        }
        return {column: band for column, band in bands.items() if band.steps}


class Watch:
    """Judges a column while it grows."""

    def __init__(self, column: str, band: Band, window_steps: int) -> None:
        self.column, self.band = column, band
        self._window = Window(window_steps)
        self._first: int | None = None

    def add(self, step: int, value: float) -> Judgement | None:
        """Take the next value; None where there is no band yet, or the window is not full.

        A value that is not finite is outside at once, wherever it comes.
        """
        if math.isfinite(value):
            self._first = step if self._first is None else self._first
            value, limits = self._window.add(step, value), self.band.at(step)
            if limits is None or step - self._first < self.band.settled_after:
                return None
        else:
            limits = self.band.at(min(max(step, self.band.steps[0]), self.band.steps[-1]))
            assert limits is not None
        return Judgement(column=self.column, step=step, value=value, low=limits[0], high=limits[2])


def judge(rows: Iterable[Mapping[str, Any]], curves: Curves) -> list[ColumnHealth]:
    """Judge every column of a run that has a band, in the order of the curves.

    Raises:
        UserError: If a value is not a number.
    """
    series, result = read_series(rows), []
    for column, band in curves.bands.items():
        watch = Watch(column, band, curves.window_steps)
        judged = [j for step, value in series.get(column, ()) if (j := watch.add(step, value))]
        if judged:
            left = next((j for j in judged if not j.inside), None)
            result.append(ColumnHealth(column=column, last=judged[-1], left=left))
    return result


def read_series(rows: Iterable[Mapping[str, Any]]) -> Series:
    """Series of a metrics file's rows, by column; an empty text or None stands for what was not logged.

    Raises:
        UserError: If a value is not a number.
    """
    series: Series = {}
    for row in rows:
        for column, value in row.items():
            if column != "step" and value not in ("", None):
                step = int(_number(row["step"], "step"))
                series.setdefault(column, []).append((step, _number(value, column)))
    return series


def differences(settings: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    """Differences of the settings that both have: ``key=mine (reference: theirs)``."""
    return [
        f"{key}={settings[key]} (reference: {theirs})"
        for key, theirs in reference.items()
        if key in settings and settings[key] != theirs
    ]


def _number(value: Any, column: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(
            f"the metrics file holds {value!r} in the column {column}, which is not a number"
        ) from None
