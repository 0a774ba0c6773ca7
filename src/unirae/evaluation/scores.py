"""What an evaluation gives: scores by name, the number of images behind them, and every setting."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirae.core.distributed import rank
from unirae.core.io import write_json
from unirae.core.log import get_logger

log = get_logger(__name__)

FRECHET_SAMPLES = 50_000
"""Samples that published Fréchet scores rest on."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores by name, the number of images behind them, and everything needed to compare them."""

    scores: dict[str, float]
    count: int
    settings: dict[str, Any]

    def labelled(self) -> dict[str, float]:
        """The scores as they should be quoted: a Fréchet score of fewer than 50,000 images is ``rfid@N``."""
        few = self.count < FRECHET_SAMPLES
        return {f"{n}@{self.count}" if few and is_frechet(n) else n: v for n, v in self.scores.items()}


def is_frechet(name: str) -> bool:
    """Whether a score of this name is a Fréchet distance, whose value depends on the number of samples."""
    return name.startswith(("rfid", "rfd_", "fid", "fd_"))


def write_scores(path: str | Path, result: Scores) -> Path:
    """Write scores, count and settings as JSON, atomically."""
    return write_json(path, {"scores": result.scores, "count": result.count, "settings": result.settings})


def warn_of_bias(scores: dict[str, float], count: int) -> None:
    """Say once for each count that Fréchet scores of few images are biased upward (recipe, trap 13)."""
    if count < FRECHET_SAMPLES and any(map(is_frechet, scores)):
        _warn_once(count)


@functools.cache
def _warn_once(count: int) -> None:
    if rank() == 0:
        log.warning(
            "Fréchet scores of %d images are biased upward: quote them as @%d and compare only equal counts "
            "(published ones rest on 50,000)",
            count,
            count,
        )
