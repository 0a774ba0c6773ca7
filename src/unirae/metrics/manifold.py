"""Scores from nearest neighbours: precision and recall, density and coverage.

The support of a set is estimated by balls around its images, each as large as the distance to its k-th nearest
neighbour in the set.

- *precision*: part of the images inside a ball of the reference; *recall*: part of the reference inside a ball of the
  images (Kynkäänniemi et al. 2019, equation 2), k = 3. ADM's evaluator has the same definition; it rounds features
  to 16 bits first, which moves single images.
- *density*: how many balls of the reference an image lies in, over k; *coverage*: part of the reference's balls that
  hold an image (Naeem et al. 2020, equations 2 and 4), k = 5.

All four depend on the numbers of images on both sides.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from unirae.metrics.base import Estimate

PRECISION_RECALL_NEIGHBOURS = 3
DENSITY_COVERAGE_NEIGHBOURS = 5
_ROWS = 1024
"""Rows of the distance matrix at a time."""


@dataclass(frozen=True, kw_only=True)
class ManifoldScores:
    """Scores of a manifold: precision, recall, density and coverage."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def manifold_scores(
    images: Float[Tensor, "n d"],
    reference: Float[Tensor, "m d"],
    *,
    neighbours: int = PRECISION_RECALL_NEIGHBOURS,
    density_neighbours: int = DENSITY_COVERAGE_NEIGHBOURS,
) -> ManifoldScores:
    """Compute all four scores, from one pass over the distances of each kind; in float64.

    Raises:
        ValueError: If a side has no more images than neighbours.
    """
    largest = max(neighbours, density_neighbours)
    if min(len(images), len(reference)) <= largest:
        raise ValueError(
            f"{len(images)} images and {len(reference)} of the reference are too few for balls that reach to the "
            f"{largest}th nearest neighbour"
        )
    images, reference = images.double(), reference.double()
    own_radii = squared_radii(images, (neighbours,))[0]
    radii, density_radii = squared_radii(reference, (neighbours, density_neighbours))
    inside_own: Bool[Tensor, " m"] = torch.zeros(len(reference), dtype=torch.bool)
    covered = torch.zeros_like(inside_own)
    inside, balls = [], []
    for start, distances in _distances(images, reference):
        inside.append((distances <= radii).any(1))
        in_ball = distances < density_radii
        balls.append(in_ball.sum(1))
        covered |= in_ball.any(0)
        inside_own |= (distances <= own_radii[start : start + len(distances), None]).any(0)
    return ManifoldScores(
        precision=_share(torch.cat(inside)),
        recall=_share(inside_own),
        density=_density(torch.cat(balls), density_neighbours),
        coverage=_share(covered),
    )


def squared_radii(rows: Float64[Tensor, "n d"], neighbours: tuple[int, ...]) -> Float64[Tensor, "k n"]:
    """Squared distance of each row to its k-th nearest other row, for each k."""
    found = []
    for start, distances in _distances(rows, rows):
        own = torch.arange(len(distances))
        distances[own, start + own] = -1.0  # itself comes first, whatever rounding says
        found.append(distances.topk(max(neighbours) + 1, largest=False).values[:, list(neighbours)])
    return torch.cat(found).T.contiguous()


def _distances(
    a: Float64[Tensor, "n d"], b: Float64[Tensor, "m d"]
) -> Iterator[tuple[int, Float64[Tensor, "r m"]]]:
    """Blocks of rows of the squared distances, each with the number of its first row."""
    squares = b.square().sum(1)
    for start in range(0, len(a), _ROWS):
        rows = a[start : start + _ROWS]
        yield start, (rows.square().sum(1, keepdim=True) + squares - 2.0 * (rows @ b.T)).clamp_min_(0.0)


def _share(inside: Bool[Tensor, " n"]) -> Estimate:
    share = float(inside.double().mean())
    return Estimate(
        value=share,
        standard_error=math.sqrt(share * (1.0 - share) / len(inside)),
        method="binomial, the balls given",
    )


def _density(balls: Int64[Tensor, " n"], neighbours: int) -> Estimate:
    per_image = balls.double() / neighbours
    return Estimate(
        value=float(per_image.mean()),
        standard_error=float(per_image.std()) / math.sqrt(len(per_image)),
        method="spread over images, the balls given",
    )
