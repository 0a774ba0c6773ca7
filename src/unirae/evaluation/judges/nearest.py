"""The training images nearest to generated ones: is a generator inventing, or copying?

Images are compared token by token in the features of an autoencoder's encoder, by Euclidean distance. Of the spaces
of features tried on the demo's emoji this one tells copies from new images best and still finds most copies that were
moved and scaled a little (docs/log.md).

Distances on their own say little: blurred images are near to everything. So beside those of the samples stand two
yardsticks that went through the same decoder:

- *copies*: training images, reconstructed. A generator that had learned them by heart would paint these.
- *new*: held-out images, reconstructed. A perfect generator would paint pictures like these.

A distance is *as near as a copy* if it is among the nearest 95 % of the copies'. For new images that happens too, with
a rate that is measured here; only what the samples have over it is a sign of copying.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from unirae.core.exact import NETWORK_CHUNK, exact_float32, in_chunks
from unirae.core.images import to_float
from unirae.models.rae import RAE

COPIES_FOUND = 0.95
"""The part of true copies that counts as such."""


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Nearest rows of a bank for each query, nearest first."""

    indices: Int64[Tensor, "n k"]
    distances: Float[Tensor, "n k"]


def token_vectors(rae: RAE, images: UInt8[Tensor, "n 3 H W"]) -> Float[Tensor, "n d"]:
    """The encoder's tokens of each image in a row, without noise and not normalised."""
    with exact_float32(images.device):
        return in_chunks(rae.tokens, to_float(images), NETWORK_CHUNK).flatten(1)


def find_nearest(queries: Float[Tensor, "n d"], bank: Float[Tensor, "m d"], *, count: int = 1) -> Neighbours:
    """The ``count`` nearest rows of ``bank`` by Euclidean distance; of all rows where there are fewer."""
    # without matrix products: |a|² − 2ab + |b|² loses the digits of small distances
    found = torch.cdist(queries, bank, compute_mode="donot_use_mm_for_euclid_dist")
    distances, indices = found.topk(min(count, len(bank)), dim=1, largest=False)
    return Neighbours(indices=indices, distances=distances)


@dataclass(frozen=True, kw_only=True)
class CopyScores:
    """Distances to the nearest training image.

    Attributes:
        median_of_copies, median_of_new, median_of_samples: of the distances.
        new_as_near_as_copies, samples_as_near_as_copies: part of the images that lie within ``threshold``.
        threshold: within it lie 95 % of the copies.
    """

    median_of_copies: float
    median_of_new: float
    median_of_samples: float
    threshold: float
    new_as_near_as_copies: float
    samples_as_near_as_copies: float


def score_copies(
    *, copies: Float[Tensor, " a"], new: Float[Tensor, " b"], samples: Float[Tensor, " c"]
) -> CopyScores:
    """Score copies from the distances of each set's images to their nearest training images."""
    threshold = torch.quantile(copies, COPIES_FOUND)
    return CopyScores(
        median_of_copies=float(copies.median()),
        median_of_new=float(new.median()),
        median_of_samples=float(samples.median()),
        threshold=float(threshold),
        new_as_near_as_copies=float((new <= threshold).float().mean()),
        samples_as_near_as_copies=float((samples <= threshold).float().mean()),
    )
