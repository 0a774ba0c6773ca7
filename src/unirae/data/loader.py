"""Batches read by worker processes that leave signals to the process that started them."""

from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from unirae.core.stopping import held_back, leave_signals_to_parent


class Loader(DataLoader[Any]):
    """torch's loader; a signal to the whole group of processes reaches its workers in no moment of their lives."""

    def __init__(
        self, *args: Any, worker_init_fn: Callable[[int], None] = leave_signals_to_parent, **kwargs: Any
    ) -> None:
        super().__init__(*args, worker_init_fn=worker_init_fn, **kwargs)

    def __iter__(self) -> Any:
        """Iterate over the loader's batches; workers start here."""
        with held_back():
            return super().__iter__()
