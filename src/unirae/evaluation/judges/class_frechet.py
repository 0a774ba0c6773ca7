"""Fréchet distances of small sets of labelled images to real ones: of all images together, and class by class.

The distance of all images together does not see whether an image shows what its label says: real images under wrong
labels have the distance of real ones. So beside it stands the mean over classes of the distance between the images of a
class and the real ones of that class.

Both are biased upward where images are few (recipe, trap 13), the second by far more. So candidates must have the same
number of images in each class, and a score says something only beside those of the others.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from unirae.evaluation.passes.image_set import LabelledImages
from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.frechet import frechet_distance
from unirae.metrics.moments import MomentAccumulator, Moments


@dataclass(frozen=True, kw_only=True)
class LabelledFeatures:
    """One vector per image, and its label."""

    features: Float[Tensor, "n d"]
    labels: Int64[Tensor, " n"]

    def __getitem__(self, chosen: Tensor) -> "LabelledFeatures":
        """Choose some of the vectors, with their labels."""
        return LabelledFeatures(features=self.features[chosen], labels=self.labels[chosen])

    def moments(self) -> Moments:
        """Mean and covariance of the features."""
        accumulator = MomentAccumulator(width=self.features.shape[1])
        accumulator.update(self.features)
        return accumulator.compute()


def extract(extractor: FeatureExtractor, data: LabelledImages) -> LabelledFeatures:
    """Extract the features of images."""
    return LabelledFeatures(features=extractor(data.images), labels=data.labels)


def distance(a: LabelledFeatures, b: LabelledFeatures) -> float:
    """Fréchet distance of all images together."""
    return frechet_distance(a.moments(), b.moments())


def distance_within_classes(candidate: LabelledFeatures, reference: LabelledFeatures) -> float:
    """Mean over the candidate's images of the distance between its class and the reference's.

    Classes with fewer than two images on either side are left out; NaN if no other is there.
    """
    total, images = 0.0, 0
    for label in candidate.labels.unique():
        own, real = (side[side.labels == label] for side in (candidate, reference))
        if len(own.labels) < 2 or len(real.labels) < 2:
            continue
        total += len(own.labels) * distance(own, real)
        images += len(own.labels)
    return total / images if images else float("nan")


def redraw(
    counts: list[int], data: LabelledFeatures, generator: Generator
) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Randomly ``counts[k]`` images of each class k, and all the others: a held-out set of the same kind.

    Repeated, it shows how much a score of so few images moves by chance.
    """
    drawn = torch.zeros(len(data.labels), dtype=torch.bool)
    for label, count in enumerate(counts):
        own = (data.labels == label).nonzero()[:, 0]
        drawn[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    return data[drawn], data[~drawn]
