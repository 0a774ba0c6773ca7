"""The order of training: the same global batches on any number of processes, from any point of an epoch."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from unirae.core.errors import ConfigError


class SampleKey(NamedTuple):
    """Which picture, and in which epoch: what its augmentation depends on."""

    index: int
    epoch: int


def derived_seed(seed: int, epoch: int, index: int) -> int:
    """A 64-bit seed that is a function of its three arguments alone."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class EpochSampler(Sampler[SampleKey]):
    """Sample keys of this rank, epoch by epoch.

    With p the epoch's permutation and B the global batch, global batch g is p[g·B : (g+1)·B], and rank r of R
    takes its r-th contiguous part of B/R. So the union over ranks is the one-process batch, and nothing is
    padded or repeated; the last, incomplete batch is dropped.
    """

    def __init__(
        self,
        *,
        count: int,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ):
        """``batch_size`` is the global one.

        Raises:
            ConfigError: the batch is larger than the data or does not divide among the processes.
        """
        if batch_size < 1 or batch_size % world_size:
            raise ConfigError(
                f"data.global_batch_size={batch_size} must be a positive multiple of the number of "
                f"processes, {world_size}"
            )
        if batch_size > count:
            largest = max(count // world_size * world_size, world_size)
            raise ConfigError(
                f"data.global_batch_size={batch_size} is larger than the data ({count} images): no full "
                f"batch. Use data.global_batch_size={largest} or less."
            )
        self._count, self._batch_size, self._seed, self._shuffle = count, batch_size, seed, shuffle
        self._rank, self._world_size = rank, world_size
        self.epoch = 0
        self.start_batch = 0

    @property
    def batches_per_epoch(self) -> int:
        """Full global batches in an epoch."""
        return self._count // self._batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation. A new epoch starts at batch 0; naming the current one changes nothing."""
        if epoch != self.epoch:
            self.resume_at(epoch, 0)

    def resume_at(self, epoch: int, start_batch: int) -> None:
        """Continue ``epoch`` at global batch ``start_batch``; later epochs start from their beginning."""
        self.epoch, self.start_batch = epoch, start_batch

    def __len__(self) -> int:
        """Samples of this rank in a whole epoch, also after a resume."""
        return self.batches_per_epoch * (self._batch_size // self._world_size)

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys from ``start_batch`` on."""
        epoch, part = self.epoch, self._batch_size // self._world_size
        order = self._order(epoch)
        for batch in range(self.start_batch, self.batches_per_epoch):
            start = batch * self._batch_size + self._rank * part
            yield from (SampleKey(index, epoch) for index in order[start : start + part].tolist())

    def _order(self, epoch: int) -> torch.Tensor:
        if not self._shuffle:
            return torch.arange(self._count)
        generator = torch.Generator().manual_seed(derived_seed(self._seed, epoch, -1))
        return torch.randperm(self._count, generator=generator)
