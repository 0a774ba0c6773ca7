"""Warning in the log when training waits for its data."""

import time
from typing import Any

import lightning.pytorch as pl

from unirae.core.arguments import argument
from unirae.core.distributed import is_main
from unirae.core.log import get_logger
from unirae.training.data_wait import WaitClock
from unirae.training.events import logs_now
from unirae.training.manual import ManualModule

log = get_logger(__name__)

_SHARE, _STEPS = 0.1, 20


class DataWait(pl.Callback):
    """Warns once if more than a tenth of the time of the steps since the last log line went into waiting for data.

    The first step is left out: workers start then. Spans of fewer than 20 steps say too little and are joined.
    """

    def __init__(self) -> None:
        self._mark: tuple[int, float, float] | None = None
        self._said = False

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Begin to measure anew."""
        self._mark = None

    def on_train_batch_end(self, trainer: pl.Trainer, module: ManualModule, *args: Any) -> None:
        """Look, whenever a step is logged anyway."""
        if self._said or not is_main():
            return
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        clock: WaitClock = data.wait_clock
        step = trainer.global_step
        if self._mark is None:
            self._mark = (step, time.perf_counter(), clock.seconds())
            return
        since, then, waited = self._mark
        if not logs_now(trainer) or step - since < _STEPS:
            return
        now, waits = time.perf_counter(), clock.seconds()
        self._mark = (step, now, waits)
        if (share := (waits - waited) / max(now - then, 1e-9)) > _SHARE:
            self._said = True
            log.warning(
                "waiting for data took %.0f %% of the time of the last %d steps. %s is %d: more workers "
                "help where cores are idle; docs/data.md says what else does",
                100 * share,
                step - since,
                argument("loader.num_workers"),
                data.num_workers,
            )
