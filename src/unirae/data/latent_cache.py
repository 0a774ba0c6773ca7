"""Reading a latent cache: the latents of every view of a data set, encoded once, in memory-mapped shards.

Its files are described in :mod:`unirae.data.cache_plan`; ``unirae.evaluation.latents.writing`` writes them. A cache
whose key is not the wanted one is refused, never used.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, DataError
from unirae.data.cache_plan import INDEX, SAMPLES, CachePlan, check_key, is_complete, shard_files
from unirae.data.captions import drawn_caption
from unirae.data.sample_key import SampleKey, sample_generator
from unirae.data.source import Source
from unirae.data.transforms import Transform, ViewTransform

_OPEN_SHARDS = 128
"""Each mapped shard holds a file descriptor; ImageNet has thousands of shards, a process often 1024 descriptors."""


class LatentCache:
    """The latents of a finished cache by image and view.

    Shards are mapped into memory when read, by each process for itself; those used last stay open, up to a limit.

    Args:
        expected_key: what ``unirae.evaluation.latents.writing.cache_key`` says for this run.
        trust: take the cache although its images cannot be shown to be this run's.

    Raises:
        DataError: If there is no finished cache, or a file of it is missing or cut off.
        ConfigError: If the cache holds other latents.
    """

    def __init__(self, folder: str | Path, expected_key: dict[str, Any], *, trust: bool = False) -> None:
        self.folder = Path(folder)
        if not is_complete(self.folder):
            raise DataError(f"{self.folder} holds no finished latent cache (there is no {INDEX})")
        self.plan = CachePlan.read(self.folder / INDEX)
        check_key(self.folder, self.plan.key, expected_key, trust=trust)
        if missing := self._missing():
            raise DataError(
                f"the latent cache in {self.folder} is damaged: {len(missing)} of its files are missing or cut off, "
                f"such as {missing[0]}. Remove {INDEX} there, and they will be made again"
            )
        labels, shown = np.load(self.folder / SAMPLES).T
        self.labels, self.shown = torch.from_numpy(labels.copy()), torch.from_numpy(shown.copy())
        self._shards: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """Number of images."""
        return self.plan.count

    def __getstate__(self) -> dict[str, Any]:
        """The state without the mapped shards, which pickle would copy whole."""
        return {**vars(self), "_shards": {}}

    def latent(self, index: int, view: int) -> Float[Tensor, "c h w"]:
        """Normalised, float32, whatever the cache's precision."""
        shard, row = divmod(index, self.plan.shard_images)
        return torch.from_numpy(self._mapped(shard)[row, view].astype(np.float32))

    def _mapped(self, shard: int) -> np.ndarray:
        mapped = self._shards.pop(shard, None)
        if mapped is None:
            mapped = np.load(shard_files(self.folder, shard)[0], mmap_mode="r")
        self._shards[shard] = mapped  # behind the others: the first is the one unused for longest
        if len(self._shards) > _OPEN_SHARDS:
            del self._shards[next(iter(self._shards))]
        return mapped

    def _missing(self) -> list[str]:
        shards = range(len(self.plan.shards))
        files = [
            shard_files(self.folder, s)[0].name for s in shards if not self.plan.is_whole(self.folder, s)
        ]
        return files if (self.folder / SAMPLES).is_file() else [*files, SAMPLES]


class CachedLatents(Dataset[dict[str, Any]]):
    """Samples ``{"latent": float32 [c, h, w], "label": int, "index": int}`` by number or :class:`SampleKey`.

    Picture, view, label and caption are those that an :class:`~unirae.data.dataset.ImageDataset` with this transform
    and seed gives for the same key.

    Args:
        captions: the pictures' source, where samples are to have a ``"caption"``, too.
    """

    def __init__(
        self, *, cache: LatentCache, transform: Transform, seed: int, captions: Source | None = None
    ) -> None:
        self.cache, self.seed, self._captions = cache, seed, captions
        self._transform = require_views(transform)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty where pictures have no labels."""
        return self.cache.plan.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.class_names)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.cache)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """One cached sample; ``index`` is that of the image shown, also where it replaces a bad one."""
        key = SampleKey.of(key)
        if not 0 <= key.index < len(self):
            raise IndexError(f"image {key.index} of {len(self)}")
        view = self._transform.view(sample_generator(self.seed, key))
        shown = int(self.cache.shown[key.index])
        found = {
            "latent": self.cache.latent(key.index, view),
            "label": int(self.cache.labels[key.index]),
            "index": shown,
        }
        if self._captions is not None:
            found["caption"] = drawn_caption(self._captions, shown, seed=self.seed, epoch=key.epoch)
        return found


def require_views(transform: Transform) -> ViewTransform:
    """The transform, if all its results can be cached.

    Raises:
        ConfigError: If the transform draws from more views than can be counted.
    """
    if isinstance(transform, ViewTransform):
        return transform
    raise ConfigError(
        f"{argument('latent_cache')} cannot hold what {type(transform).__name__} gives: another picture in every "
        f"epoch. Use {argument('transform', 'unirae.data.transforms.AdmCropFlip')}, or AdmCenterCrop for pictures that "
        f"must not be mirrored; or {argument('latent_cache', None)}"
    )
