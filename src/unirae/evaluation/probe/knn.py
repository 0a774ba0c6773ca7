"""Weighted k-nearest-neighbour classification of frozen features, as DINO does it (Caron et al. 2021, section 4).

Each query asks its k nearest training images by cosine similarity s; each votes for its class with exp(s / T). There
is nothing to train and nothing to choose, so the score depends on the features alone.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from unirae.core.errors import ConfigError
from unirae.core.exact import exact_float32

_SIMILARITIES_AT_ONCE = 2**25
"""Entries of the similarity matrix that are held at a time: 128 MB."""


@dataclass(frozen=True, kw_only=True)
class KnnSettings:
    """DINO's numbers: ``k`` neighbours, ``temperature`` T."""

    k: int = 20
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k={self.k} must be at least 1: so many neighbours vote")
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature={self.temperature} must be positive and finite")

    def neighbours(self, training_images: int) -> int:
        """Number of neighbours that are asked: k, or all training images where there are fewer."""
        return min(self.k, training_images)


def knn_votes(
    queries: Float[Tensor, "m d"],
    training: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    num_classes: int,
    settings: KnnSettings,
) -> Float[Tensor, "m k"]:
    """Sum of exp((s − 1) / T) over each query's nearest training images, by class; the likeliest has the largest.

    The −1 changes no order and keeps small temperatures from overflowing.
    """
    k = settings.neighbours(len(training))
    with exact_float32(queries.device):
        training = F.normalize(training.float(), dim=1)
        votes = []
        for chunk in queries.split(max(1, _SIMILARITIES_AT_ONCE // len(training))):
            similarity, nearest = (F.normalize(chunk.float(), dim=1) @ training.T).topk(k, dim=1)
            weights = ((similarity - 1) / settings.temperature).exp()
            empty = weights.new_zeros(len(chunk), num_classes)
            votes.append(empty.scatter_add_(1, labels[nearest], weights))
        return torch.cat(votes)
