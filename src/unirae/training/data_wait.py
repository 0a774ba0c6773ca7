"""Time that steps wait for their data: a loader with a clock."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from unirae.data.loader import Loader


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
