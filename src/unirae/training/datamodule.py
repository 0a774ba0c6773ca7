"""Data for a run: an endless stream of batches whose position is the step, and the evaluation split."""

import os
from collections.abc import Callable
from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.core.hardware import keep_freed_memory
from unirae.core.stopping import leave_signals_to_parent
from unirae.data.dataset import ImageDataset
from unirae.data.latent_cache import CachedLatents
from unirae.data.mix import Mixed
from unirae.data.mix_order import MixedBatches
from unirae.data.order import EndlessBatches
from unirae.training.data_wait import TimedLoader, WaitClock


class TrainingSet(Protocol):
    """Data of training: images, or latents from a cache."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, key: Any, /) -> dict[str, Any]:
        """A sample by :class:`~unirae.data.sample_key.SampleKey`."""
        ...


class TrainingData(pl.LightningDataModule):
    """Batches for training and a data set for evaluation.

    A run has one endless loader; an epoch is ``steps_per_epoch`` of its batches. Batch number k is a function of
    (seed, k) alone, so a resumed run starts its loader at its step and goes on as if it had never stopped, and
    no worker idles at the turn of an epoch.

    Args:
        train_dataset: images as uint8, or latents from a cache; or a mix of either, each step's batch from one part.
        eval_dataset: images as uint8.
        global_batch_size: images per step over all devices and micro-batches.
        world_size: number of processes.
        local_processes: those of them that share this machine.
        micro_batches: into how many parts a device's batch is split.
        num_workers: loader processes per device; None derives them from the cores. Then cached latents are read without
            any where the CPU trains: handing a batch over takes longer than reading it.
        overfit_batches: train on this many batches again and again; 0 is off.
        seed: of the order.
        collate: samples to a batch; None is torch's way.

    ``steps_per_epoch`` is the number of whole batches in one pass; the rest of a pass is left out. Of a mix it is
    :func:`~unirae.data.mix_order.steps_per_epoch`.
    """

    def __init__(
        self,
        *,
        train_dataset: TrainingSet,
        eval_dataset: ImageDataset,
        global_batch_size: int,
        world_size: int,
        local_processes: int,
        micro_batches: int,
        num_workers: int | None,
        overfit_batches: int,
        seed: int,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(global_batch_size, int):
            raise ConfigError(
                f"{argument('loader.global_batch_size', global_batch_size)} must be a whole number"
            )
        parts = world_size * micro_batches
        if global_batch_size % parts:
            raise ConfigError(
                f"{argument('loader.global_batch_size', global_batch_size)} must be divisible by {world_size} "
                f"device(s) × {micro_batches} micro-batch(es) = {parts}"
            )
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.global_batch_size, self.world_size, self.seed = global_batch_size, world_size, seed
        self.images_per_micro_batch = global_batch_size // parts
        self.overfit_batches, self._collate = overfit_batches, collate
        self.num_workers = default_workers(local_processes) if num_workers is None else num_workers
        self._reads_without = num_workers is None and _all_cached(train_dataset)
        self.wait_clock = WaitClock(torch.device("cpu"))
        self.steps_per_epoch = self.batches(rank=0, start_step=0).batches_per_epoch

    def batches(self, *, rank: int, start_step: int) -> EndlessBatches | MixedBatches:
        """One process's stream of batches from a step on."""
        options: dict[str, Any] = {
            "batch_size": self.global_batch_size,
            "seed": self.seed,
            "rank": rank,
            "world_size": self.world_size,
            "start_step": start_step,
            "repeat_batches": self.overfit_batches,
        }
        if isinstance(self.train_dataset, Mixed):
            return MixedBatches(shares=self.train_dataset.shares, **options)
        return EndlessBatches(count=len(self.train_dataset), **options)

    def train_dataloader(self) -> DataLoader[Any]:
        """The stream from the trainer's current step on (a resumed run has restored it by now)."""
        trainer = self.trainer
        assert trainer is not None
        device = trainer.strategy.root_device
        self.wait_clock = WaitClock(device)
        if self._reads_without and device.type == "cpu":
            self.num_workers = 0
        return TimedLoader(
            self.train_dataset,
            clock=self.wait_clock,
            batch_sampler=self.batches(rank=trainer.global_rank, start_step=trainer.global_step),
            num_workers=self.num_workers,
            pin_memory=device.type == "cuda",
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_prepare_worker,
            collate_fn=self._collate,
        )


def _all_cached(dataset: TrainingSet) -> bool:
    """True where every sample comes from a latent cache."""
    if isinstance(dataset, Mixed):
        return all(isinstance(part.data, CachedLatents) for part in dataset.parts)
    return isinstance(dataset, CachedLatents)


def _prepare_worker(number: int) -> None:
    """A worker makes images of the same sizes over and over from the start."""
    leave_signals_to_parent()
    keep_freed_memory()


def default_workers(local_processes: int) -> int:
    """Loader processes per device: the cores that a process may use shared out, one left for training, at most 12."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(12, cores // max(local_processes, 1) - 1))
