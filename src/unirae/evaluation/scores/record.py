"""Record of an evaluation: scores by name, how far to trust them, and every setting."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unirae.core.distributed import rank
from unirae.core.io import write_json
from unirae.core.log import get_logger
from unirae.metrics.base import Estimate

log = get_logger(__name__)

PREFIX = "r"
"""Prefix of reconstructions' scores against the originals: ``rfid``."""
FRECHET_SAMPLES = 50_000
"""Samples that published Fréchet scores rest on."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores by name, the number of images behind them, and everything needed to compare them.

    Attributes:
        warnings: what a reader must know before quoting a score.
    """

    estimates: dict[str, Estimate]
    count: int
    settings: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def scores(self) -> dict[str, float]:
        """The values of the scores."""
        return {name: estimate.value for name, estimate in self.estimates.items()}

    def label(self, name: str) -> str:
        """A score's name as it should be quoted: a Fréchet score of fewer than 50,000 images is ``rfid@N``."""
        few = self.count < FRECHET_SAMPLES and is_frechet(name)
        return f"{name}@{self.count}" if few else name

    def labelled(self) -> dict[str, float]:
        """The scores under the names to quote them by."""
        return {self.label(name): value for name, value in self.scores.items()}

    def content(self) -> dict[str, Any]:
        """Content of a result file."""
        labels = {name: self.label(name) for name in self.scores}
        uncertainties = {name: estimate.uncertainty() for name, estimate in self.estimates.items()}
        return {
            "metrics": self.scores,
            "labels": {name: label for name, label in labels.items() if label != name},
            "count": self.count,
            "uncertainty": {name: known for name, known in uncertainties.items() if known is not None},
            "warnings": self.warnings,
            "settings": self.settings,
        }


def is_frechet(name: str) -> bool:
    """Say whether a score of this name is a Fréchet distance, whose value depends on the number of samples."""
    return name.removeprefix("r").startswith(("fid", "sfid", "fd_", "fdr"))


def name_of_reconstructions(name: str) -> str:
    """The name under which reconstructions' score against the originals is kept: ``rfid`` for ``fid``, ``rfd`` for
    ``fd``; any other score has one name alone.
    """
    return f"{PREFIX}{name}" if name.split("_")[0] in ("fid", "fd") else name


def write_scores(path: str | Path, result: Scores) -> Path:
    """Write scores, count and settings as JSON, atomically."""
    return write_json(path, result.content())


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning, of the first process and the first time alone: training scores the same set again and again."""
    if rank() == 0:
        log.warning("%s", message)
