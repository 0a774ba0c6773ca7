"""Time that steps wait for their data: a loader with a clock, and the callback that warns."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch

from unirae.core.arguments import argument
from unirae.core.distributed import is_main
from unirae.core.log import get_logger
from unirae.data.loader import Loader
from unirae.training.events import logs_now

log = get_logger(__name__)

_SHARE, _STEPS = 0.1, 20


class WaitClock:
    """Adds up the time in which a device has nothing to do because its next batch is not there.

    On CUDA the host runs ahead: it may wait for a batch while the device still works. So a pair of events in the
    device's stream is what tells, read once the device has passed them. Elsewhere it is the host's time.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._seconds = 0.0
        self._pairs: deque[tuple[Any, Any]] = deque()

    def fetch(self, batches: Iterator[Any]) -> Any:
        """The next batch, with the clock running."""
        before = self._mark()
        batch = next(batches)
        after = self._mark()
        if self._on_cuda:
            self._pairs.append((before, after))
            self.seconds()  # lets go of what is over
        else:
            self._seconds += after - before
        return batch

    def seconds(self) -> float:
        """Seconds waited so far."""
        while self._pairs and self._pairs[0][1].query():
            before, after = self._pairs.popleft()
            self._seconds += before.elapsed_time(after) / 1000
        return self._seconds

    def _mark(self) -> Any:
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class TimedLoader(Loader):
    """A loader whose batches are waited for by ``clock``."""

    def __init__(self, *args: Any, clock: WaitClock, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock = clock

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the loader's batches, and measure the wait for each."""
        batches = super().__iter__()
        while True:
            try:
                batch = self.clock.fetch(batches)
            except StopIteration:
                return
            yield batch


class DataWait(pl.Callback):
    """Warns once if more than a tenth of the time of the steps since the last log line went into waiting for data.

    The first step is left out: workers start then. Spans of fewer than 20 steps say too little and are joined.
    """

    def __init__(self) -> None:
        self._mark: tuple[int, float, float] | None = None
        self._said = False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin to measure anew."""
        self._mark = None

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any) -> None:
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
