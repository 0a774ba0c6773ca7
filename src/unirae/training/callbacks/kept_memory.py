"""Memory that a step frees and that stays for the next, from the second step on."""

from typing import Any

import lightning.pytorch as pl

from unirae.core.hardware import keep_freed_memory


class KeptMemory(pl.Callback):
    """Callback that keeps freed memory after the first step: what is made until then lives as long as the run.

    Optimizer states and 16-bit copies of weights are then mapped one by one
    (:func:`~unirae.core.hardware.map_large_blocks`), and a step finds the same room as the one before. What begins
    later, such as a discriminator's optimizer, lies among the rest.
    """

    def __init__(self) -> None:
        self._told = False

    def on_train_batch_end(self, *_: Any) -> None:
        """Tell the allocator after the first step."""
        if not self._told:
            keep_freed_memory()
            self._told = True
