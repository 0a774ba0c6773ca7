"""Writing a latent cache: each view of each image through the encoder, once.

The files are described in :mod:`unirae.data.cache_plan`. Shards are written atomically and shared out among the
processes; an interrupted call, repeated, makes only those that are missing.
"""

import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from torch import Tensor

from unirae.core.arguments import argument
from unirae.core.distributed import barrier, gather, is_main, rank, world_size
from unirae.core.errors import ConfigError, DataError, NonFiniteError
from unirae.core.exact import NETWORK_CHUNK
from unirae.core.io import read_json, write_atomically, write_json
from unirae.core.log import get_logger
from unirae.core.names import count_of
from unirae.data.cache_plan import (
    INDEX,
    PLAN,
    SAMPLES,
    CachePlan,
    check_classes,
    check_images,
    check_key,
    is_complete,
    shard_files,
)
from unirae.data.dataset import ImageDataset
from unirae.data.latent_cache import CachedLatents, LatentCache, require_views
from unirae.data.loader import Loader
from unirae.data.source_content import changes, content_of
from unirae.data.views import AllViews
from unirae.evaluation.latents.earlier import renewed_key
from unirae.evaluation.passes.encoding import encode_views
from unirae.evaluation.passes.reading import Progress
from unirae.models.rae import RAE

log = get_logger(__name__)

CacheDtype = Literal["float32", "float16"]

_FORMAT = 2
"""1 had less of the encoder, see :mod:`unirae.evaluation.latents.earlier`."""
_SHARD_BYTES = 256 * 2**20


def cache_key(rae: RAE, dataset: ImageDataset, *, dtype: CacheDtype) -> dict[str, Any]:
    """Everything that cached latents depend on; an RAE without its encoder knows it too."""
    if dtype not in ("float32", "float16"):
        raise ConfigError(
            f"{argument('latent_cache.dtype', repr(dtype))} is unknown; choose float32 or float16"
        )
    return {
        "format": _FORMAT,
        "encoder": rae.token_identity,
        "latent_shape": list(rae.latent_shape),
        "statistics": rae.stats.sha256 if rae.stats.shape else None,
        "transform": require_views(dataset.transform).settings,
        "data": content_of(dataset.source),
        **({"fast_decode": True} if dataset.fast_decode else {}),
        "dtype": dtype,
    }


def check_cached_images(folder: str | Path, dataset: ImageDataset, *, trust: bool) -> None:
    """Refuse a cache, finished or begun, of other images than those of ``dataset``, before anything costs time.

    Raises:
        ConfigError: If the contents of the images differ; with ``trust``, which is for finished caches, that is
            a warning.
    """
    file = Path(folder) / (INDEX if is_complete(folder) else PLAN)
    if file.is_file():
        found = CachePlan.read(file)
        check_images(Path(folder), found.key, content_of(dataset.source), trust=trust and is_complete(folder))
        check_classes(Path(folder), found.class_names, tuple(dataset.source.class_names))


def ensure_latent_cache(
    folder: str | Path,
    *,
    rae: RAE,
    open_encoder: Callable[[], RAE],
    dataset: ImageDataset,
    dtype: CacheDtype,
    trust: bool = False,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    progress: Progress | None = None,
) -> CachedLatents:
    """Open ``dataset`` as latents: from the cache in ``folder``, which is made or finished first if need be.

    Args:
        rae: with the latent statistics of the run; its encoder may be absent.
        open_encoder: gives the same RAE with its encoder; called only if something is missing.
        trust: take a finished cache although its images cannot be shown to be those of ``dataset``.

    Raises:
        ConfigError: If the folder holds other latents, or the transform is random beyond counting.
    """
    folder, device = Path(folder), torch.device(device)

    def full() -> RAE:
        return open_encoder().to(device).with_stats(deepcopy(rae.stats).to(device))

    key = cache_key(rae, dataset, dtype=dtype)
    key = renewed_key(folder, key, open_rae=full, dataset=dataset, device=device, trust=trust)
    if not is_complete(folder):
        write_latent_cache(
            folder,
            rae=full(),
            dataset=dataset,
            dtype=dtype,
            device=device,
            num_workers=num_workers,
            progress=progress,
        )
    cache = LatentCache(folder, key, trust=trust)
    check_classes(folder, cache.plan.class_names, tuple(dataset.source.class_names))
    if len(cache) != len(dataset):
        raise ConfigError(
            f"the latent cache in {folder} holds the latents of {count_of(len(cache), 'image')}, and the data have "
            f"{len(dataset)}. Choose another folder for {argument('latent_cache')}, or remove this one and it will be "
            "made again"
        )
    log.info("latents: from the cache in %s", folder)
    captions = dataset.source if dataset.captions else None
    return CachedLatents(cache=cache, transform=dataset.transform, seed=dataset.seed, captions=captions)


def write_latent_cache(
    folder: str | Path,
    *,
    rae: RAE,
    dataset: ImageDataset,
    dtype: CacheDtype,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    shard_images: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Make a cache, or what is missing of it. Works in several processes, each of which makes whole shards.

    Args:
        rae: on ``device``, with its encoder and the latent statistics of the run.
        shard_images: images per file; default: as many as fill 256 MiB. An unfinished cache keeps its own.
        progress: called with (images done, images in all) of what this process has to do.

    Raises:
        ConfigError: If the folder holds other latents or other files.
        DataError: If the disk is too small, or the images changed meanwhile.
        NonFiniteError: If a latent is NaN, or too large for 16 bits.
    """
    folder, device = Path(folder), torch.device(device)
    key = cache_key(rae, dataset, dtype=dtype)
    plan = _plan(folder, key, dataset, shard_images=shard_images)
    barrier()  # before anybody writes what another has not looked for yet
    if is_main():
        write_json(folder / PLAN, plan.to_dict())
    missing = [shard for shard in range(len(plan.shards)) if not plan.is_whole(folder, shard)]
    barrier()  # the same
    _check_space(folder, plan, missing)
    own = missing[rank() :: world_size()]
    images = [plan.shards[shard] for shard in own]
    chunks = _chunks(rae, dataset, images, device=device, num_workers=num_workers, progress=progress)
    for shard in own:
        _write_shard(folder, shard, plan, islice(chunks, -(-len(plan.shards[shard]) // NETWORK_CHUNK)))
    barrier()
    _check_unchanged(folder, plan, dataset)
    if is_main():
        _finish(folder, plan)
    barrier()
    return folder


def _plan(folder: Path, key: dict[str, Any], dataset: ImageDataset, *, shard_images: int | None) -> CachePlan:
    """The plan that the folder has, or a new one."""
    if (folder / PLAN).is_file():
        plan = CachePlan.read(folder / PLAN)
        check_key(folder, plan.key, key)
        return plan
    others = [file for file in folder.iterdir() if not file.name.startswith(".")] if folder.is_dir() else []
    if others or folder.is_file():
        raise ConfigError(
            f"{argument('latent_cache', folder)} holds other files; choose a new or an empty folder"
        )
    plan = CachePlan(
        key=key,
        count=len(dataset),
        shard_images=1,
        shape=(key["transform"]["views"], *key["latent_shape"]),
        dtype=key["dtype"],
        class_names=tuple(dataset.source.class_names),
    )
    fitting = max(1, _SHARD_BYTES // plan.image_bytes)
    return replace(plan, shard_images=shard_images or fitting)


def _check_unchanged(folder: Path, plan: CachePlan, dataset: ImageDataset) -> None:
    """Refuse to call a cache whole whose images changed while they were encoded; every process comes here."""
    changed = changes(plan.key["data"], content_of(dataset.source, anew=True))
    if any(gather(bool(changed))):
        raise DataError(
            f"the images changed while they were encoded ({'; '.join(changed) or 'as another process saw'}): remove "
            f"{folder} and start again when nothing writes to the data"
        )


def _check_space(folder: Path, plan: CachePlan, missing: list[int]) -> None:
    images = sum(len(plan.shards[shard]) for shard in missing)
    needed, free = images * plan.image_bytes, shutil.disk_usage(folder).free
    if is_main() and images:
        what = f"{images} images × {plan.shape[0]} views, {needed / 1e9:.3g} GB"
        log.info("latent cache: encoding %s, into %s", what, folder)
    if needed > free:
        raise DataError(
            f"the latent cache in {folder} needs {needed / 1e9:.3g} GB more, and {free / 1e9:.3g} GB are free. Choose "
            f"another disk for {argument('latent_cache')}, {argument('latent_cache.dtype', 'float16')}, or "
            f"{argument('latent_cache', None)}"
        )


Chunk = tuple[Tensor, Tensor, Tensor]


def _chunks(
    rae: RAE,
    dataset: ImageDataset,
    shards: list[range],
    *,
    device: torch.device,
    num_workers: int,
    progress: Progress | None,
) -> Iterator[Chunk]:
    """Latents [b, v, c, h, w], labels and shown numbers, of at most as many images as the network takes at once."""
    batches = [
        list(images[start : start + NETWORK_CHUNK])
        for images in shards
        for start in range(0, len(images), NETWORK_CHUNK)
    ]
    total, done = sum(map(len, shards)), 0
    for batch in Loader(AllViews(dataset), batch_sampler=batches, num_workers=num_workers):
        latents = torch.stack(encode_views(rae.latents, batch["images"], device=device), dim=1)
        done += len(latents)
        if progress is not None:
            progress(done, total)
        yield latents.cpu(), batch["label"], batch["index"]


def _write_shard(folder: Path, shard: int, plan: CachePlan, chunks: Iterator[Chunk]) -> None:
    """Write a shard: first the latents, then the file that says they are whole."""
    file, samples_file = shard_files(folder, shard)
    labels: list[int] = []
    shown: list[int] = []

    def write(stream: IO[bytes]) -> None:
        stream.write(plan.header(shard))
        for latents, labels_of_chunk, shown_of_chunk in chunks:
            stored = latents.to(getattr(torch, plan.dtype))
            if not stored.isfinite().all():
                raise NonFiniteError(_not_finite(latents, shown_of_chunk))
            stream.write(stored.numpy().tobytes())
            labels.extend(labels_of_chunk.tolist())
            shown.extend(shown_of_chunk.tolist())

    write_atomically(file, write)
    write_json(samples_file, {"labels": labels, "shown": shown})


def _not_finite(latents: Tensor, shown: Tensor) -> str:
    images = f"images {int(shown.min())} to {int(shown.max())}"
    if latents.isfinite().all():
        largest = float(latents.abs().max())
        remedy = argument("latent_cache.dtype", "float32")
        return f"a latent of {images} is {largest:.3g}, too large for 16 bits: set {remedy}"
    return (
        f"a latent of {images} is NaN or infinite: the encoder's weights or the latent statistics are broken"
    )


def _finish(folder: Path, plan: CachePlan) -> None:
    """Gather the shards' records of their samples, and mark the cache as whole."""
    samples = [read_json(shard_files(folder, shard)[1]) for shard in range(len(plan.shards))]
    table = np.array(
        [pair for s in samples for pair in zip(s["labels"], s["shown"], strict=True)], dtype=np.int64
    )
    write_atomically(folder / SAMPLES, lambda stream: np.save(stream, table))
    write_json(folder / INDEX, plan.to_dict())
