"""Progress and speed of a run: a bar on a terminal, plain lines in a log file, numbers in the loggers."""

import time
from collections import deque
from collections.abc import Callable, Collection
from statistics import fmean
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from unirae.core.distributed import is_main
from unirae.core.log import ON_BAR, get_logger
from unirae.training.events import logs_now
from unirae.training.manual import ManualModule

log = get_logger(__name__)


class RunProgress(pl.Callback):
    """Shows the step, the loss, images/s and the time left; logs ``train/images_per_s`` and ``train/time_left_s``.

    Both are judged anew every ``log_every_n_steps``: images/s by the steps since the last time, the time left by
    :func:`usual_seconds` of the last five times. So one pause for samples or scores does not count, while a run that
    has become slower, because its GAN has begun or another program runs beside it, is followed from its second line
    on, and wholly believed at the fourth. The first step, for which workers start, counts only if it is logged.

    Args:
        label: what the bar says.
        images_per_step: the global batch size.
        console: where the bar goes if it is a terminal; standard error without one.
        clock: seconds.
    """

    def __init__(
        self,
        *,
        label: str,
        images_per_step: int,
        console: Console | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.label, self.images_per_step = label, images_per_step
        self.console, self.clock = console or Console(stderr=True), clock
        self._bar: Progress | None = None
        self._first = 0
        self._mark = (0, 0.0)
        self._seconds_per_step: deque[float] = deque(maxlen=5)

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Start the clock, and the bar where there is a terminal."""
        self._first = trainer.global_step
        self._mark = (self._first, self.clock())
        self._seconds_per_step.clear()
        if is_main() and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self.label, total=trainer.max_steps, completed=trainer.global_step, status=""
            )

    def on_train_batch_end(self, trainer: pl.Trainer, module: ManualModule, *args: Any) -> None:
        """Move the bar; every ``log_every_n_steps`` measure the speed since the last time."""
        step = trainer.global_step
        if self._bar:
            self._bar.update(self._task, completed=step)
        now = self.clock()
        if logs_now(trainer):
            self._report(trainer, module, now)
        elif step == self._first + 1:
            self._mark = (step, now)

    def _report(self, trainer: pl.Trainer, module: ManualModule, now: float) -> None:
        (since, then), step = self._mark, trainer.global_step
        self._mark = (step, now)
        seconds_per_step = max(now - then, 1e-9) / (step - since)
        self._seconds_per_step.append(seconds_per_step)
        left_s = (trainer.max_steps - step) * usual_seconds(self._seconds_per_step)
        speed = {"train/images_per_s": self.images_per_step / seconds_per_step, "train/time_left_s": left_s}
        for logger in trainer.loggers:
            logger.log_metrics(speed, step)
        loss = module.last_terms.get("loss", float("nan"))
        left = f"{readable_time(left_s)} left" if step < trainer.max_steps else "the last step"
        status = f"loss {loss:.4f}, {speed['train/images_per_s']:.1f} images/s, {left}"
        if self._bar:
            self._bar.update(self._task, status=status)
        if is_main():
            on_bar = {ON_BAR: self._bar is not None}
            log.info("%s: step %d/%d, %s", self.label, step, trainer.max_steps, status, extra=on_bar)

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Take the bar away before the error is printed."""
        self.teardown(trainer, module, "fit")


def usual_seconds(of_lines: Collection[float]) -> float:
    """The mean of a step's seconds on the last lines, without the slowest of them and, from three on, the fastest.

    One slow line among fast ones has no weight; a change for good is followed line by line, neither late nor at once.
    """
    fast_first = sorted(of_lines)
    if len(fast_first) > 1:
        fast_first = fast_first[len(fast_first) > 2 : -1]
    return fmean(fast_first)


def readable_time(seconds: float) -> str:
    """Seconds as text: ``1 h 02 min``, ``3 min 20 s``, ``12 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_of_hour:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
