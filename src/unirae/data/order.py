"""The order of training: batch number k is a function of (seed, k), on any number of processes, from any step on."""

from collections.abc import Iterator
from itertools import count as count_from

import torch
from torch.utils.data import Sampler

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.core.names import count_of
from unirae.data.sample_key import SampleKey, derived_seed


class EndlessBatches(Sampler[list[SampleKey]]):
    """This process's part of every global batch from ``start_step`` on, epoch after epoch, without end.

    With p the permutation of epoch e and B the global batch, batch g of that epoch is p[g·B : (g+1)·B], and rank
    r of R takes its r-th contiguous part of B/R: the union over ranks is the one-process batch, nothing is padded
    or repeated, and the last, incomplete batch of an epoch is left out.

    Args:
        count: images in the data set.
        batch_size: of the global batch.
        seed: of the permutations.
        start_step: the first batch to give; a resumed run passes the steps that it has made.
        repeat_batches: go through this many batches of epoch 0 again and again (to overfit them); 0 is off.
    """

    def __init__(
        self,
        *,
        count: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        repeat_batches: int = 0,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ConfigError(
                f"{argument('loader.batch_size', batch_size)} must be a positive multiple of the number of processes, "
                f"{world_size}"
            )
        if batch_size > count:
            most = max(count // world_size * world_size, world_size)
            raise ConfigError(
                f"{argument('loader.batch_size', batch_size)} is larger than the training split "
                f"({count_of(count, 'image')}), so no batch is full. Use {argument('loader.batch_size', most)} or less."
            )
        self.batches_per_epoch = count // batch_size
        self._count, self._batch_size, self._seed = count, batch_size, seed
        self._rank, self._part = rank, batch_size // world_size
        self._start_step, self._repeat = start_step, min(repeat_batches, self.batches_per_epoch)
        self._order: tuple[int, torch.Tensor] | None = None

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Batches of keys, without end."""
        return (self.batch(step) for step in count_from(self._start_step))

    def batch(self, step: int) -> list[SampleKey]:
        """This process's keys of batch number ``step``."""
        epoch, batch = (0, step % self._repeat) if self._repeat else divmod(step, self.batches_per_epoch)
        start = batch * self._batch_size + self._rank * self._part
        return [
            SampleKey(index, epoch) for index in self._permutation(epoch)[start : start + self._part].tolist()
        ]

    def _permutation(self, epoch: int) -> torch.Tensor:
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derived_seed(self._seed, epoch, -1))
            self._order = (epoch, torch.randperm(self._count, generator=generator))
        return self._order[1]
