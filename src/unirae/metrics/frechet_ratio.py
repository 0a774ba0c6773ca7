"""FDr6: Fréchet distances in six feature spaces, each over that of real images, and their mean (RAEv2, section 9).

    FDr_k = FD_k(images, reference) / valFD_k        FDr6 = mean over the six spaces k of FDr_k

valFD_k is the distance of ImageNet's 50,000 validation images to the reference, the training images, at 256 px: real
images have 1 in every space. The spaces and their constants are those of FD-loss (arXiv 2604.28190). There is no mean
of five: a term that cannot be had is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unirae.metrics.base import Estimate
from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.frechet import frechet_distance
from unirae.metrics.moments import Moments
from unirae.metrics.set_metrics import SetMetric
from unirae.metrics.statistics import Keep, SetStatistics

FDR6 = "fdr6"
"""Name of the mean, by which all seven scores are asked for."""

Pooling = Literal["class", "attention", "spatial"]
"""From a network's tokens or map to one vector: its class token, its own attention pool, or the mean over places."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """A feature space of FDr6.

    Attributes:
        name: short, for the name of its score: ``fdr_mae``.
        validation_distance: the constant valFD.
        statistics: names, without ``.npz``, under which its reference moments are published.
        model: timm's name of its network; None for the Inception of FID.
        input_size_px: side of the square that images are resized to; Inception resizes by itself.
    """

    name: str
    validation_distance: float
    statistics: tuple[str, ...]
    model: str | None = None
    input_size_px: int = 299
    pooling: Pooling = "class"


def _of_timm(
    name: str,
    validation_distance: float,
    model: str,
    input_size_px: int,
    pooling: Pooling,
    statistics: str | None = None,
) -> Space:
    """A space whose moments were published under the model's name, if under no other."""
    stem = statistics or model.replace(".", "_")
    return Space(
        name=name,
        validation_distance=validation_distance,
        statistics=(f"{stem}_in256_t{input_size_px}_stats",),
        model=model,
        input_size_px=input_size_px,
        pooling=pooling,
    )


SPACES = (
    Space(
        name="inception",
        validation_distance=1.68,
        statistics=("guided_diffusion_stats", "VIRTUAL_imagenet256_labeled"),
    ),
    _of_timm("convnext", 56.87, "convnextv2_base.fcmae_ft_in22k_in1k", 224, "spatial", "convnext"),
    _of_timm("dinov2", 14.19, "vit_large_patch14_dinov2.lvd142m", 256, "class"),
    _of_timm("mae", 0.04, "vit_large_patch16_224.mae", 224, "class"),
    _of_timm("siglip", 0.60, "vit_so400m_patch16_siglip_256.v2_webli", 224, "attention"),
    _of_timm("clip", 5.60, "vit_large_patch14_clip_224.openai", 256, "class"),
)
"""The six spaces of FDr6."""


@dataclass(frozen=True, kw_only=True)
class PublishedMoments:
    """Reference moments of one space from a file.

    Attributes:
        identity: JSON-able: the file, a hash of the moments, the size in pixels of the images behind them.
    """

    moments: Moments
    identity: dict[str, Any]


def mean_name(extractors: Mapping[str, FeatureExtractor]) -> str:
    """Name of the mean, which says so if any of the networks has random weights."""
    return f"{FDR6}_random" if any("random" in e.name.split("_") for e in extractors.values()) else FDR6


def frechet_ratio_metrics(
    extractors: Mapping[str, FeatureExtractor],
    *,
    published: Mapping[str, PublishedMoments] | None = None,
    spaces: Sequence[Space] = SPACES,
) -> list[SetMetric]:
    """The ratios of all spaces, which know their mean.

    Args:
        extractors: by the spaces' names.
        published: reference moments by the spaces' names; None: those of the reference that the other scores have.

    Raises:
        ValueError: If a space has no extractor or no moments, or moments of another width.
    """
    lacking = [
        f"{what} of {space.name}"
        for what, found in (("the network", extractors), ("reference moments", published))
        for space in spaces
        if found is not None and space.name not in found
    ]
    if lacking:
        raise ValueError(f"{FDR6} is the mean over {len(spaces)} spaces and lacks {', '.join(lacking)}")
    mean = mean_name(extractors)
    return [
        _ratio(space, extractors[space.name], None if published is None else published[space.name], mean)
        for space in spaces
    ]


def _ratio(
    space: Space, extractor: FeatureExtractor, published: PublishedMoments | None, mean: str
) -> SetMetric:
    """One term; where its reference moments are given, it compares with no other reference."""
    fixed = None if published is None else published.moments
    if fixed is not None and len(fixed.mean) != extractor.width:
        raise ValueError(
            f"{FDR6}: the reference moments of {space.name} are of {len(fixed.mean)} features, but its network gives "
            f"{extractor.width}"
        )

    def compute(images: SetStatistics, reference: SetStatistics | None) -> dict[str, Estimate]:
        moments = fixed
        if moments is None:
            assert reference is not None, "without published moments there is a reference"
            moments = reference.need_moments()
        distance = frechet_distance(images.need_moments(), moments)
        return {
            FDR6: Estimate(value=distance / space.validation_distance, details={"frechet_distance": distance})
        }

    name = extractor.name if extractor.name.startswith("fdr_") else f"fdr_{extractor.name}"
    parameters: dict[str, Any] = {"validation_distance": space.validation_distance}
    if published is not None:
        parameters["compared_with"] = published.identity
    return SetMetric(
        labels={FDR6: name},
        extractor=extractor,
        compute=compute,
        images=Keep(moments=True),
        reference=Keep(moments=True) if published is None else None,
        parameters=parameters,
        mean=mean,
    )
