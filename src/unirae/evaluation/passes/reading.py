"""Reading the images of a data set for a score: which of them, each once, in chunks shared by the processes."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from unirae.core.distributed import own_batches
from unirae.core.errors import DataError, UserError
from unirae.core.exact import NETWORK_CHUNK, rechunk
from unirae.data.loader import Loader
from unirae.data.source import Source
from unirae.data.source_content import recorded

Precision = Literal["fp32", "bf16", "fp16"]
Progress = Callable[[int, int], None]
Chunk = tuple[Int64[Tensor, " b"], UInt8[Tensor, "b 3 H W"]]
"""Positions in the set, and the images that stand there."""


class EvaluationData(Protocol):
    """A map-style data set of dictionaries with ``image`` (uint8, "3 H W", all of one size) and ``index``."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, key: int, /) -> dict[str, Any]:
        """One image; ``index`` differs from ``key`` where an unreadable image was replaced by another."""
        ...


class DescribedData(EvaluationData, Protocol):
    """Data that describe where they come from."""

    source: Source


def choose_indices(available: int, num_samples: int | None, seed: int) -> list[int]:
    """All indices, or a seeded random subset in ascending order (the first N may be one class)."""
    if available == 0:
        raise DataError("the data set to evaluate on is empty; choose another split or folder")
    if num_samples is None or num_samples == available:
        return list(range(available))
    if not 1 <= num_samples <= available:
        raise DataError(
            f"num_samples={num_samples}, but the data set has {available} images; give 1 to {available}"
        )
    generator = torch.Generator().manual_seed(seed)
    return sorted(torch.randperm(available, generator=generator)[:num_samples].tolist())


def describe_data(dataset: DescribedData) -> dict[str, Any]:
    """Identity of the evaluated images, for ``settings``."""
    return {"data": dataset.source.name, "fingerprint": recorded(dataset.source)}


def spoken_data(recorded: Mapping[str, Any]) -> str:
    """Name of recorded data (:func:`describe_data`) for a reader: the last part of their path, or their source.

    A name on the hub, such as ``ILSVRC/imagenet-1k``, stays whole.
    """
    where = (recorded.get("fingerprint") or {}).get("path")
    return str(recorded.get("data") or "images") if where is None else last_part(str(where))


def last_part(where: str) -> str:
    """Last part of a path; a name on the hub is given back whole."""
    is_path = where.startswith((".", "/", "~")) or where.count("/") != 1 or Path(where).exists()
    return Path(where).name if is_path else where


def own_positions(count: int, chunk: int) -> list[int]:
    """This process's share of ``count`` images: whole chunks, so that each holds the same images everywhere."""
    return [position for batch in own_batches(count, chunk) for position in batch]


def read_chunks(
    dataset: EvaluationData,
    indices: list[int],
    *,
    batch_size: int,
    num_workers: int,
    replaced: Tensor,
    chunk: int = NETWORK_CHUNK,
    progress: Progress | None = None,
) -> Iterator[Chunk]:
    """This process's share of the images at ``indices``, in chunks of a fixed size, each image once.

    Args:
        batch_size: images read at once; it decides nothing else.
        replaced: how many images had to be replaced is added to it. Chunks go to its device.
        progress: called with (images done, images in all) of this process, after each chunk was dealt with.
    """
    own = own_positions(len(indices), chunk)
    images = _read(dataset, [indices[p] for p in own], batch_size, num_workers, replaced)
    done = 0
    for part in rechunk(images, chunk):
        positions = torch.tensor(own[done : done + len(part)])
        yield positions, part.to(replaced.device, non_blocking=True)
        done += len(part)
        if progress is not None:
            progress(done, len(own))


class _MistakesAsItems(Dataset[Any]):
    """The images at ``indices``; an error of the user in place of one: torch would add a worker's traceback to it."""

    def __init__(self, dataset: EvaluationData, indices: list[int]) -> None:
        self._dataset, self._indices = dataset, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> Any:
        try:
            return self._dataset[self._indices[position]]
        except UserError as error:
            return error


def _collate(items: list[Any]) -> Any:
    """The images of a batch and their numbers, or the first error in it; only tensors cost a worker a handshake."""
    for item in items:
        if isinstance(item, UserError):
            return item
    return default_collate([item["image"] for item in items]), [int(item["index"]) for item in items]


def _read(
    dataset: EvaluationData, indices: list[int], batch_size: int, num_workers: int, replaced: Tensor
) -> Iterator[UInt8[Tensor, "b 3 H W"]]:
    loader = Loader(
        _MistakesAsItems(dataset, indices),
        batch_size=batch_size,
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,  # while the main process adds to the moments
        collate_fn=_collate,
    )
    wanted = iter(indices)
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        images, found = batch
        replaced += sum(index != next(wanted) for index in found)
        yield images
