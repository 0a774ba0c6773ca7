"""Scores while training: one callback, and for each stage an evaluator."""

from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl

from unirae.core.distributed import is_main
from unirae.core.io import write_json
from unirae.core.log import get_logger
from unirae.evaluation.passes.reading import Progress
from unirae.training.callbacks.after_step import AfterStep
from unirae.training.events import is_due, publish_scores
from unirae.training.manual import ManualModule

log = get_logger(__name__)


class Evaluator(Protocol):
    """A thing to score while training: reconstructions, samples, a classifier."""

    def prepare(self, trainer: pl.Trainer, module: Any) -> str:
        """Load what scoring needs, so that missing weights show at once; returns what is scored, for the log."""
        ...

    def score(self, trainer: pl.Trainer, module: Any, progress: Progress) -> dict[str, Any]:
        """The content of the result file, with the scores as ``metrics``; every process gets the same.

        Args:
            progress: called in long loops, which it may leave.
        """
        ...


class Scoring(AfterStep):
    """Scores the averaged weights every N steps, and once at the end; writes ``eval/step-*.json``.

    Args:
        evaluator: what is scored, and how.
        folder: where the JSON files go.
        every_n_steps: interval in steps; null means at the end only.
    """

    def __init__(self, evaluator: Evaluator, *, folder: str | Path, every_n_steps: int | None) -> None:
        self.evaluator, self.folder, self.every_n_steps = evaluator, Path(folder), every_n_steps
        self._what = ""

    @property
    def work_name(self) -> str:
        """Name of the evaluator's work."""
        return type(self.evaluator).__name__

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Load what scoring needs, or say what is missing."""
        self._what = self.evaluator.prepare(trainer, module)

    def is_due_now(self, trainer: pl.Trainer) -> bool:
        """True when scores are due, and after the last step."""
        step = trainer.global_step
        return is_due(step, self.every_n_steps) or step == trainer.max_steps

    def work(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Score the model, log the scores, write the file, publish as ``val/…``."""
        module.guard.check(module.last_checkpoint)  # its message names the step and the terms
        step = trainer.global_step
        if is_main():
            log.info("step %d: scoring %s", step, self._what)  # it may take longer than many steps
        content = self.evaluator.score(trainer, module, self.leave_if_asked)
        if is_main():
            labels = content.get("labels", {})
            scores = ", ".join(f"{labels.get(name, name)} {v:.4g}" for name, v in content["metrics"].items())
            log.info("step %d: %s", step, scores)
            write_json(self.folder / f"step-{step:07d}.json", content)
        publish_scores(trainer, module, {f"val/{name}": v for name, v in content["metrics"].items()})
