"""A word in the log when a run leaves the band of healthy ones."""

import logging
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl

from unirae.core.distributed import is_main
from unirae.core.log import get_logger
from unirae.evaluation.health.causes import usual_causes
from unirae.evaluation.health.check import Curves, Watch
from unirae.training.events import logs_now
from unirae.training.manual import ManualModule

log = get_logger(__name__)


class HealthCheck(pl.Callback):
    """Callback that compares logged values with curves of healthy runs; warns once per column, never stops a run.

    A resumed run is judged again once it has logged for a window of its own.

    Args:
        curves: of the experiment.
        obstacles: why they do not apply to this run (settings that differ). Then nothing is compared, and it says so
            at the start; of a run on other data, where nobody would expect them to apply, only to whoever debugs.
    """

    def __init__(self, *, curves: Curves, obstacles: Sequence[str]) -> None:
        self.curves, self.obstacles = curves, obstacles
        self._watches: dict[str, Watch] = {}

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Begin to watch, or say why not."""
        if not is_main():
            return
        if self.obstacles:
            log.log(
                logging.DEBUG if any(map(_of_data, self.obstacles)) else logging.INFO,
                "health: not compared with the curves of %s, whose settings differ: %s",
                self.curves.name,
                summary(self.obstacles),
            )
            return
        window = self.curves.window_steps
        self._watches = {column: Watch(column, band, window) for column, band in self.curves.bands.items()}

    def on_train_batch_end(self, trainer: pl.Trainer, module: ManualModule, *args: Any) -> None:
        """Judge the values of a step that was logged: they are on the host already."""
        if logs_now(trainer):
            self._look(trainer.global_step, {f"train/{name}": v for name, v in module.last_terms.items()})

    def on_scores(self, trainer: pl.Trainer, module: pl.LightningModule, scores: dict[str, float]) -> None:
        """Judge scores."""
        self._look(trainer.global_step, scores)

    def _look(self, step: int, values: dict[str, float]) -> None:
        for column in self._watches.keys() & values.keys():
            judged = self._watches[column].add(step, values[column])
            if judged and not judged.inside:
                del self._watches[column]  # once is enough
                log.warning(
                    "health: %s left the band of %s: %s. Usual causes: %s. `unirae compare-run` draws the curves "
                    "(docs/healthy-runs.md)",
                    column,
                    self.curves.name,
                    judged,
                    usual_causes(column, above=not judged.value < judged.low),
                )


def _of_data(obstacle: str) -> bool:
    """Say whether a setting that differs says where images come from: this run's, or its autoencoder's."""
    return ".source." in obstacle.partition("=")[0]


def summary(items: Sequence[str], limit: int = 3) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
