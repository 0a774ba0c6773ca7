"""Features of every image of a data set, computed once for linear and nearest-neighbour probes.

The encoder is frozen and images are not augmented, so each image has one feature vector. Processes share the images in
whole chunks of a fixed size and then all hold the same table, whatever their number. A table is stored under a name
that is the hash of everything it depends on: weights, images, crop and pooling.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import Subset

from unirae.core.cache import keep_in_cache
from unirae.core.distributed import all_sum, gather, is_main, own_batches, rows_of_all
from unirae.core.errors import ConfigError, DataError, NonFiniteError
from unirae.core.exact import NETWORK_CHUNK, exact_float32, in_chunks
from unirae.core.images import to_float
from unirae.core.io import load_tensors, save_tensors, sha256_of_text
from unirae.core.log import get_logger, log_once
from unirae.data.dataset import ImageDataset
from unirae.data.loader import Loader
from unirae.data.mix import Mixed
from unirae.data.source_content import content_of
from unirae.data.views import AllViews
from unirae.evaluation.passes.image_hashes import HashCollector, content_sha256
from unirae.models.encoders.base import Encoder

log = get_logger(__name__)

Pooling = Literal["avg", "cls", "both"]
POOLINGS: tuple[Pooling, ...] = ("avg", "cls", "both")

_FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class Features:
    """One float32 vector per image and its label, on the CPU.

    Attributes:
        replaced: unreadable images, in whose place others were shown.
        content_sha256: names the pixels of all images; None where these are not all.
    """

    values: Float[Tensor, "n d"]
    labels: Int64[Tensor, " n"]
    replaced: int = 0
    content_sha256: str | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, chosen: Tensor) -> "Features":
        """Choose some of the vectors, with their labels."""
        return Features(values=self.values[chosen], labels=self.labels[chosen])


class Pooled(Protocol):
    """Function from images to one vector each."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the vectors depend on beside the images, ready for JSON."""
        ...

    def __call__(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        """RGB in [0, 1] to vectors."""
        ...


class PooledEncoder:
    """An encoder's tokens, after its final norm without affine, as one vector.

    ``avg`` is the mean over patch tokens, ``cls`` the class token, ``both`` the two side by side.
    """

    def __init__(self, encoder: Encoder, pooling: Pooling) -> None:
        """Raises ConfigError for a pooling that is unknown, or needs a class token that is not there."""
        if pooling not in POOLINGS:
            raise ConfigError(f"pooling={pooling!r} is unknown; choose {', '.join(POOLINGS)}")
        if pooling != "avg" and not encoder.has_class_token:
            raise ConfigError(
                f"pooling={pooling} needs a class token, and {encoder.identity.name} ({encoder.identity.kind}) has "
                "none; use pooling=avg"
            )
        self.encoder, self.pooling = encoder, pooling
        self.width = encoder.width * (2 if pooling == "both" else 1)

    @property
    def identity(self) -> dict[str, Any]:
        """All of the encoder that decides, its name, where its weights came from, and the pooling."""
        of = self.encoder.identity
        return {"name": of.name, "weights": of.weights, **of.decisive(), "pooling": self.pooling}

    def __call__(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        """Encode and pool in one pass."""
        if self.pooling == "avg":
            return self.encoder(images).mean((-2, -1))
        token, patches = self.encoder.class_and_patch_tokens(images)
        return token if self.pooling == "cls" else torch.cat([patches.mean((-2, -1)), token], 1)


class RawPixels:
    """No network: the pixels themselves, averaged down to ``side_px`` where the images are larger."""

    def __init__(self, *, side_px: int = 16) -> None:
        self.side_px = side_px

    @property
    def identity(self) -> dict[str, Any]:
        """Identity of the pooling: the size."""
        return {"kind": "pixels", "side_px": self.side_px}

    def __call__(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d"]:
        """Flatten RGB."""
        height, width = images.shape[-2:]
        small = F.adaptive_avg_pool2d(images, (min(height, self.side_px), min(width, self.side_px)))
        return small.flatten(1)


def extract_features(
    network: Pooled,
    dataset: ImageDataset,
    *,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """The features of each image of ``dataset`` in epoch 0; every process gets the same table.

    Args:
        network: its weights are on ``device``; runs in float32, in chunks of a fixed size.
        batch_size: images read at once; no number depends on it.
        progress: called with (images done, images in all) of this process.

    Raises:
        NonFiniteError: If a feature is NaN or infinite.
    """
    device = torch.device(device)
    own = [index for batch in own_batches(len(dataset), NETWORK_CHUNK) for index in batch]
    loader = Loader(Subset(dataset, own), batch_size=_whole_chunks(batch_size), num_workers=num_workers)
    mine, labels, shown = [], [], []
    hashes, done = HashCollector(len(dataset), device=device), 0
    for batch in loader:
        with exact_float32(device):
            images = to_float(batch["image"].to(device, non_blocking=True))
            mine.append(in_chunks(network, images, NETWORK_CHUNK).float().cpu())
        hashes.update(torch.tensor(own[done : done + len(images)]), batch["image"])
        done += len(images)
        labels.append(batch["label"])
        shown.append(batch["index"])
        if progress is not None:
            progress(done, len(own))
    rows = torch.tensor(own, dtype=torch.int64)
    replaced = (torch.cat(shown) != rows).sum() if shown else torch.zeros((), dtype=torch.int64)
    width = int(_over_processes(torch.tensor([mine[0].shape[1] if is_main() else 0]), device))
    values = _gathered(torch.cat(mine) if mine else torch.empty(0, width), rows, len(dataset), device)
    if not values.isfinite().all():
        raise NonFiniteError("a feature is NaN or inf: the encoder's weights are broken")
    return Features(
        values=values,
        labels=_gathered(torch.cat(labels) if labels else torch.empty(0).long(), rows, len(dataset), device),
        replaced=int(_over_processes(replaced, device)),
        content_sha256=content_sha256(hashes.compute()),
    )


def cached_features(
    network: Pooled,
    dataset: ImageDataset,
    *,
    cache_dir: Path | None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Features:
    """Extract features as :func:`extract_features`, from a file where one fits; None keeps no files.

    A file that cannot be written is a warning.

    Raises:
        WeightsError: If the file is damaged.
    """
    if cache_dir is None:
        return extract_features(network, dataset, progress=progress, **options)
    key = cache_key(network, dataset)
    file = cache_dir / "probe_features" / f"{sha256_of_text(key)[:32]}.pt"
    if all(gather(file.is_file())):  # every process takes the same way
        log.info("features of %s: %s", dataset.source.name, file)
        if progress is not None:
            progress(len(dataset), len(dataset))
        content = load_tensors(file)
        return Features(**{field.name: content[field.name] for field in fields(Features)})
    if is_main():
        name, where = dataset.source.name, file.parent  # one line for both splits of all networks of a probe
        log_once(
            log,
            logging.INFO,
            f"not all features of {name}, as its images are now, are kept in {where}: they are computed",
        )
    features = extract_features(network, dataset, progress=progress, **options)
    if any(gather(content_of(dataset.source) != content_of(dataset.source, anew=True))):
        log.warning("the features are not kept: the images changed while they were computed")
        return features
    keep_in_cache(
        lambda: save_tensors(file, {"key": key, **vars(features)}),
        f"the table of features of {dataset.source.name}",
    )
    return features


def cache_key(network: Pooled, dataset: ImageDataset) -> str:
    """Everything that features depend on, as text."""
    images = {"content": content_of(dataset.source), "transform": AllViews(dataset).description}
    size = list(dataset[0]["image"].shape[-2:])
    return json.dumps(
        {"format": _FORMAT, "network": network.identity, "images": images, "size_px": size}, sort_keys=True
    )


def check_classes(dataset: ImageDataset | Mixed[Any]) -> int:
    """Count the classes.

    Raises:
        DataError: If there are no labels, or one class.
    """
    classes = dataset.source.num_classes
    if classes < 2:
        what = "no labels" if classes == 0 else "one class"
        raise DataError(
            f"{dataset.source.name} has {what}; a probe needs images of two classes or more, such as a folder of "
            "CLASS/*.jpg"
        )
    return classes


def _whole_chunks(batch_size: int) -> int:
    """Round a batch size to whole chunks, so that those of each process are those of a single one."""
    return max(1, batch_size // NETWORK_CHUNK) * NETWORK_CHUNK


def _gathered(own: Tensor, rows: Int64[Tensor, " m"], count: int, device: torch.device) -> Tensor:
    """Gather the rows of all processes in their places, on the CPU."""
    table = torch.zeros(count, *own.shape[1:], dtype=own.dtype)
    table[rows] = own
    return rows_of_all(table, device=device)


def _over_processes(tensor: Tensor, device: torch.device) -> Tensor:
    return all_sum(tensor.to(device)).cpu()
