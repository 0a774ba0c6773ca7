"""What generated images are compared with: the Gaussian of a data set's features, or of a published file.

The reference of ImageNet's gFID is the file ``VIRTUAL_imagenet256_labeled.npz`` of ADM (Dhariwal and Nichol 2021): its
stored ``mu`` and ``sigma`` are those of the training set (recipe, trap 1). For one's own data the reference is the
training split, cropped as ADM does.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unirae.core.distributed import all_sum, shard
from unirae.core.errors import ConfigError, DataError
from unirae.core.exact import NETWORK_CHUNK, rechunk
from unirae.core.io import file_sha256
from unirae.data.dataset import ImageDataset
from unirae.evaluation.reconstruction import Progress, choose_indices, describe_data, read_images
from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.moments import MomentAccumulator, Moments


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A Gaussian in one extractor's feature space."""

    moments: Moments
    """Their ``count`` is 0 where it is not known."""
    identity: dict[str, Any]
    """JSON-able: which data, or which file with its hash."""


def references_from_data(
    dataset: ImageDataset,
    extractors: Sequence[FeatureExtractor],
    *,
    num_samples: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    progress: Progress | None = None,
) -> list[Reference]:
    """One reference for each extractor, from one pass over ``dataset``; every process gets the same.

    Args:
        dataset: cropped to the size of the generated images.
        extractors: their networks are on ``device``.
        num_samples: a seeded random subset of this size; all images where None.
        batch_size: images read at once; it does not reach the networks.
        progress: called with (images done, images in all) of this process.

    Raises:
        DataError: fewer than two images.
    """
    indices = choose_indices(len(dataset), num_samples, seed)
    if len(indices) < 2:
        raise DataError("a Fréchet reference needs at least 2 images, better thousands")
    own = [indices[i] for i in shard(len(indices))]
    accumulators = [MomentAccumulator(width=extractor.width, device=device) for extractor in extractors]
    replaced = torch.zeros((), dtype=torch.int64, device=device)
    done = 0
    for chunk in rechunk(read_images(dataset, own, batch_size, num_workers, replaced), NETWORK_CHUNK):
        images = chunk.to(device, non_blocking=True)
        for extractor, accumulator in zip(extractors, accumulators, strict=True):
            accumulator.update(extractor(images))
        done += len(chunk)
        if progress is not None:
            progress(done, len(own))
    identity = {
        **describe_data(dataset),
        "transform": type(dataset.transform).__name__,
        "count": len(indices),
        "count_available": len(dataset),
        "subset_seed": seed if len(indices) < len(dataset) else None,
        "unreadable_images_replaced": int(all_sum(replaced)),
    }
    return [Reference(moments=accumulator.compute(), identity=identity) for accumulator in accumulators]


def reference_from_npz(path: str | Path, extractor: FeatureExtractor) -> Reference:
    """The stored ``mu`` and ``sigma`` of a file in ADM's or pytorch-fid's layout, as they are.

    Raises:
        DataError: there is no such file, or it is no npz, or holds no such arrays, or not finite ones.
        ConfigError: it was made with features of another width than the extractor's.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no such file: {path}; a reference is an npz with mu and sigma")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an npz file, or was not copied completely")
    with np.load(path, allow_pickle=False) as content:
        mean, covariance = _mu_and_sigma(path, content)
    width = len(mean)
    if mean.ndim != 1 or covariance.shape != (width, width):
        raise DataError(
            f"{path}: mu of shape {mean.shape} and sigma of shape {covariance.shape} are not a mean and its covariance"
        )
    if width != extractor.width:
        raise ConfigError(
            f"{path} holds features of {width} numbers, {extractor.name} gives {extractor.width}: they cannot be "
            "compared. Files of ADM and pytorch-fid hold 2,048 Inception features and serve the score fid"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"{path}: mu or sigma holds values that are not finite")
    moments = Moments(count=0, mean=torch.from_numpy(mean), covariance=torch.from_numpy(covariance))
    return Reference(moments=moments, identity={"file": path.name, "sha256": file_sha256(path)})


def _mu_and_sigma(path: Path, content: Any) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays in float64; others, such as ADM's images, are not read."""
    if not {"mu", "sigma"} <= set(content.files):
        images = " It seems to hold images, not their statistics." if "arr_0" in content.files else ""
        raise DataError(
            f"{path} holds {', '.join(content.files) or 'nothing'}, but no mu and sigma.{images} The ones to use: "
            "ADM's reference batches (VIRTUAL_imagenet256_labeled.npz), or statistics of pytorch-fid"
        )
    try:
        mean, covariance = (np.asarray(content[key], dtype=np.float64) for key in ("mu", "sigma"))
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: mu or sigma cannot be read ({error})") from None
    return mean, covariance
