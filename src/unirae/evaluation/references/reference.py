"""References that images are compared with: statistics of a data set's features, or of a published file.

The reference of ImageNet's gFID is the file ``VIRTUAL_imagenet256_labeled.npz`` of ADM (Dhariwal and Nichol 2021): its
stored ``mu`` and ``sigma`` are those of the training set. The reference of rFID are the very images that are
reconstructed. The two differ by more than most models do (recipe, trap 1: 0.57 became 1.9), so a reference knows its
purpose, and a score of the other purpose refuses it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from unirae.core.arguments import argument
from unirae.core.differences import Difference, differences, shortened
from unirae.core.distributed import all_sum
from unirae.core.errors import ConfigError, DataError
from unirae.core.exact import FEATURE_CHUNK
from unirae.core.log import get_logger
from unirae.evaluation.passes.image_hashes import Hashes
from unirae.evaluation.passes.reading import (
    Chunk,
    DescribedData,
    Progress,
    choose_indices,
    describe_data,
    read_chunks,
)
from unirae.evaluation.passes.scoring import Collected, Needs, collect
from unirae.metrics.set_metrics import SetMetric
from unirae.metrics.statistics import SetStatistics, Statistics
from unirae.models.encoders.build import KINDS_OF_UNIRAE
from unirae.models.encoders.identity import as_applied

log = get_logger(__name__)

Purpose = Literal["generation", "reconstruction", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Statistics of a set of images.

    Attributes:
        identity: JSON-able: which data, or which file with its hash, for which purpose.
        extractors: by name the identity of those that made the statistics, as far as it is known.
        hashes: of the images, where they are known.
    """

    statistics: Statistics
    identity: dict[str, Any]
    extractors: dict[str, dict[str, Any]] = field(default_factory=dict)
    hashes: Hashes | None = None

    @property
    def purpose(self) -> Purpose:
        """Kind of score that the reference may be used for."""
        return self.identity["purpose"]


class ReferenceData(DescribedData, Protocol):
    """Data with the transform that crops them."""

    transform: Any


def reference_from_data(
    dataset: ReferenceData,
    needs: Needs,
    *,
    purpose: Purpose,
    num_samples: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    progress: Progress | None = None,
) -> Reference:
    """Make a reference from one pass over ``dataset``; every process gets the same.

    Args:
        dataset: cropped to the size of the images that are to be compared with it.
        needs: see :func:`unirae.metrics.set_metrics.needs`; networks are on ``device``.
        num_samples: a seeded random subset of this size; all images where None.
        batch_size: images read at once; it does not reach the networks.
        progress: called with (images done, images in all) of this process.

    Raises:
        DataError: If there are fewer than two images, or images of different sizes.
    """
    indices = choose_indices(len(dataset), num_samples, seed)
    if len(indices) < 2:
        raise DataError("a reference needs at least 2 images, better thousands")
    replaced = torch.zeros((), dtype=torch.int64, device=device)
    chunks = read_chunks(
        dataset,
        indices,
        batch_size=batch_size,
        num_workers=num_workers,
        replaced=replaced,
        chunk=FEATURE_CHUNK,
        progress=progress,
    )
    found = collect(chunks, needs, count=len(indices), device=device)
    return reference_of(
        found,
        needs,
        identity={
            **selection(dataset, indices, seed=seed),
            "purpose": purpose,
            "unreadable_images_replaced": int(all_sum(replaced)),
        },
    )


def selection(dataset: ReferenceData, indices: Sequence[int], *, seed: int) -> dict[str, Any]:
    """Record of the images: which ones of which data, and how they were cropped."""
    return {
        **describe_data(dataset),
        "crop": type(dataset.transform).__name__,
        "count": len(indices),
        "count_available": len(dataset),
        "subset_seed": seed if len(indices) < len(dataset) else None,
    }


def reference_of(found: Collected, needs: Needs, *, identity: dict[str, Any]) -> Reference:
    """Turn the result of a pass into a reference."""
    return Reference(
        statistics=found.statistics,
        identity={**identity, **found.describe()},
        extractors={extractor.name: extractor.identity for extractor, _ in needs},
        hashes=found.hashes,
    )


def completed(stored: Reference, made: Reference) -> Reference:
    """The moments of a published file, and the features of the images that lie in it."""
    statistics = dict(stored.statistics)
    for key, own in made.statistics.items():
        published = stored.statistics.get(key)
        moments = own.moments if published is None else published.moments
        statistics[key] = SetStatistics(count=own.count, moments=moments, features=own.features)
    own = [key for key in made.statistics if key not in stored.statistics]
    features = [f"{key}, features" for key in made.statistics if key not in own]
    return Reference(
        statistics=statistics,
        identity={
            **stored.identity,
            "images_in_file": made.identity["count"],
            "computed_from_its_images": [*features, *own],
        },
        hashes=made.hashes,
    )


def check_purpose(reference: Reference, wanted: Purpose) -> None:
    """Refuse a reference that was made for the other kind of score (recipe, trap 1).

    Raises:
        ConfigError: If the reference was made for the other purpose; or if its purpose is unknown and a
            reconstruction is to be scored.
    """
    if reference.purpose == wanted or (reference.purpose == "unknown" and wanted == "generation"):
        return
    name = reference.identity.get("file", "the reference")
    if wanted == "reconstruction":
        raise ConfigError(
            f"{name} is a reference of {reference.purpose} scores: rFID compares reconstructions with the very images "
            "that were reconstructed, cropped alike, and such a file gives another number (about 1.9 instead of 0.57 "
            "on ImageNet). Leave the reference out, or make one with `python src/make_reference.py --purpose "
            "reconstruction`"
        )
    raise ConfigError(
        f"{name} is a reference of {reference.purpose} scores; generated images are compared with the training "
        "images or ADM's file. Make one with `python src/make_reference.py --purpose generation`"
    )


def check_fits(reference: Reference, metrics: Sequence[SetMetric]) -> None:
    """Refuse a reference that lacks statistics for the metrics, or that other networks made.

    Raises:
        ConfigError: If the reference lacks statistics that a metric needs, or if another extractor made them.
    """
    name = reference.identity.get("file", "the reference")
    for metric in metrics:
        if metric.reference is None:
            continue
        labels = ", ".join(metric.labels.values())
        found = reference.statistics.get(metric.key)
        if found is None:
            raise ConfigError(
                f"{name} holds statistics of {', '.join(reference.statistics) or 'nothing'}, but {labels} needs those "
                f"of {metric.key}: a reference of another extractor. Make one with `python src/make_reference.py "
                f"--metrics {','.join(metric.labels)}`"
            )
        if metric.reference.features and found.features is None:
            raise ConfigError(
                f"{labels} compares the features of each image, and {name} holds only their mean and covariance. Give "
                "the reference's images, or make a reference with `python src/make_reference.py --metrics "
                f"{','.join(metric.labels)}`"
            )
        width = len(found.need_moments().mean) if found.features is None else found.features.shape[1]
        _check_extractor(name, metric, width, reference.extractors.get(metric.extractor.name))


def of_same_size(chunks: Iterable[Chunk], reference: Reference) -> Iterator[Chunk]:
    """Pass chunks on, but refuse those of another size than the reference's images, where that is known.

    Raises:
        ConfigError: If the size of a chunk differs.
    """
    wanted = reference.identity.get("size_px")
    for positions, images in chunks:
        (height, width) = images.shape[-2:]
        if wanted is not None and wanted != [height, width]:
            raise ConfigError(
                f"the images are {height}×{width} px, the reference was made of {wanted[0]}×{wanted[1]} px; scores of "
                f"different sizes cannot be compared. Crop both alike ({argument('size')}), or make a reference of "
                "this size with `python src/make_reference.py --size`"
            )
        yield positions, images


def _check_extractor(name: str, metric: SetMetric, width: int, made_by: dict[str, Any] | None) -> None:
    wanted = metric.extractor.widths[metric.output]
    if width != wanted:
        raise ConfigError(
            f"{name} holds features of {width} numbers, {metric.extractor.name} gives {wanted}: they cannot be "
            "compared. Files of ADM and pytorch-fid hold 2,048 Inception features and serve the score fid"
        )
    if made_by is None:
        return
    ours = metric.extractor.identity
    if "architecture" in ours and _knows_architecture(made_by, ours):
        log.info(
            "%s: made by an earlier version, which did not record the encoder's architecture; taken to be that of "
            "its weights, which are these",
            name,
        )
        made_by = {**made_by, "architecture": ours["architecture"]}
    if different := _decisive_differences(made_by, ours):
        said = "; ".join(
            f"{d.name} {shortened(d.first, 64)} there, {shortened(d.second, 64)} here" for d in different
        )
        raise ConfigError(
            f"{name} was made by another {metric.extractor.name}: {said}. Use the same weights on both sides, or make "
            "the reference again"
        )


_DECISIVE = ("sha256", "file_sha256", "pooling", "input_size", "precision")
"""Keys of an extractor's identity that decide; where its weights came from and the versions of libraries do not."""
_WHERE_FROM = ("source", "weights")
"""Keys of an encoder's identity that do not decide, as all others do."""


def _decisive_differences(there: dict[str, Any], here: dict[str, Any]) -> list[Difference]:
    if "kind" in here:
        there, here = ({k: v for k, v in side.items() if k not in _WHERE_FROM} for side in (there, here))
        there |= {name: as_applied(there[name]) for name in ("pixel_mean", "pixel_std") if name in there}
    else:
        there, here = ({key: side.get(key) for key in _DECISIVE} for side in (there, here))
    return differences(there, here)


def _knows_architecture(there: dict[str, Any], here: dict[str, Any]) -> bool:
    """Say whether weights in an earlier version's record come with an architecture, as published ones do.

    Random ones are drawn for any, and an encoder of one's own may read its weights in several ways.
    """
    same_weights = there.get("sha256") == here["sha256"] and "architecture" not in there
    return same_weights and here["kind"] in KINDS_OF_UNIRAE and here["weights"] != "random"
