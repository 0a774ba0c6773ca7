"""Plan of a latent cache: its files, and the key that says what its latents depend on.

A cache is a folder::

    plan.json        what it holds (the key), how many images, how they are cut into shards
    00000.npy …      latents, [images, views, c, h, w]
    00000.json …     their labels and the numbers of the images shown; written after the latents: the shard is whole
    samples.npy      labels and numbers of all images, [images, 2]
    index.json       the plan again; written last: the cache is whole
"""

import io
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unirae.core.arguments import argument
from unirae.core.differences import different_classes, flat
from unirae.core.errors import ConfigError, DataError
from unirae.core.io import read_json
from unirae.core.log import get_logger
from unirae.data.source_content import changes

log = get_logger(__name__)

PLAN, INDEX, SAMPLES = "plan.json", "index.json", "samples.npy"


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """Plan of a cache: what it holds and how it is cut."""

    key: dict[str, Any]
    count: int
    """Images."""
    shard_images: int
    shape: tuple[int, ...]
    """(views, c, h, w) of an image."""
    dtype: str
    class_names: tuple[str, ...] = ()

    @cached_property
    def shards(self) -> list[range]:
        """The images of each shard."""
        starts = range(0, self.count, self.shard_images)
        return [range(start, min(start + self.shard_images, self.count)) for start in starts]

    @property
    def image_bytes(self) -> int:
        """Number of bytes of all views of one image."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def header(self, shard: int) -> bytes:
        """The bytes that a shard's file of latents begins with."""
        stream = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(np.dtype(self.dtype))
        shape = (len(self.shards[shard]), *self.shape)
        np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
        return stream.getvalue()

    def is_whole(self, folder: Path, shard: int) -> bool:
        """Say whether the latents of a shard are there to the last byte."""
        latents, samples = shard_files(folder, shard)
        size = len(self.header(shard)) + len(self.shards[shard]) * self.image_bytes
        return samples.is_file() and latents.is_file() and latents.stat().st_size == size

    def to_dict(self) -> dict[str, Any]:
        """The plan in a form that is ready for JSON."""
        return {**asdict(self), "shape": list(self.shape), "class_names": list(self.class_names)}

    @classmethod
    def read(cls, file: Path) -> "CachePlan":
        """The inverse of :meth:`to_dict`, from a file.

        Raises:
            DataError: If the file is no plan of a cache.
        """
        content = read_json(file)
        try:
            plan = cls(**content)
            return replace(plan, shape=tuple(plan.shape), class_names=tuple(plan.class_names))
        except TypeError:
            raise DataError(f"{file} does not belong to a latent cache of this version") from None


def shard_files(folder: Path, shard: int) -> tuple[Path, Path]:
    """The files of a shard: latents, and labels with image numbers."""
    return folder / f"{shard:05d}.npy", folder / f"{shard:05d}.json"


def check_key(folder: Path, found: dict[str, Any], wanted: dict[str, Any], *, trust: bool = False) -> None:
    """Refuse a cache of something else.

    Args:
        trust: its images need not be shown to be the wanted ones.

    Raises:
        ConfigError: If the keys differ; the message says in what.
    """
    if not trust:
        check_images(folder, found, wanted.get("data", {}))
    plain = (json.loads(json.dumps({**key, "data": None})) for key in (found, wanted))  # tuples become lists
    one, other = map(flat, plain)
    differences = [
        f"{name} is {_short(one.get(name))} there and {_short(other.get(name))} here"
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]
    if differences:
        raise _refused(folder, f"holds other latents: {'; '.join(differences)}")


def check_images(
    folder: Path, found: dict[str, Any], content: dict[str, Any], *, trust: bool = False
) -> None:
    """Refuse a cache of other images, or of images that it cannot show to be these.

    Args:
        found: the cache's key.
        content: of the images that are wanted.
        trust: take it all the same, with a warning.

    Raises:
        ConfigError: If the contents differ; the message says in what.
    """
    if not (changed := changes(found.get("data", {}), content)):
        return
    if trust:
        log.warning(
            "%s: taken as latents of these images, although they differ in: %s", folder, "; ".join(changed)
        )
        return
    unsure = "is of other images, or cannot show that it is of these; they differ in: " + "; ".join(changed)
    trusting = f"; if you know that the images are the same, {argument('latent_cache.trust', True)}"
    raise _refused(folder, unsure, trusting)


def check_classes(folder: Path, there: tuple[str, ...], here: tuple[str, ...]) -> None:
    """Refuse a cache whose labels mean something else.

    Raises:
        ConfigError: If the class names or their order differ.
    """
    if there != here:
        raise _refused(folder, f"has other classes: {different_classes(there, here)}")


def _refused(folder: Path, reason: str, remedy: str = "") -> ConfigError:
    return ConfigError(
        f"the latent cache in {folder} {reason}. Choose another folder for {argument('latent_cache')}, or remove this "
        f"one and it will be made again{remedy}"
    )


def is_complete(folder: str | Path) -> bool:
    """Say whether a cache of whatever images was finished in a folder."""
    return (Path(folder) / INDEX).is_file()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
