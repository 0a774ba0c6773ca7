"""MIND: a sliced Wasserstein distance between two sets of features, which fits no Gaussian to them (RAEv2, section 9).

    MIND = 3d · mean over directions w of mean_i (⟨x⟩₍ᵢ₎ − ⟨y⟩₍ᵢ₎)²

with the sorted projections ⟨x⟩₍ᵢ₎ on random unit vectors w. Over all directions the mean of ⟨a⟩² is |a|²/d, so
a shift of all features by a counts 3·|a|². Subset and directions are drawn as RAEv2's evaluator draws them, on the CPU:
first the subset of the larger side, then the directions.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unirae.metrics.base import Estimate

PROJECTIONS, SEED = 1000, 2020
_AT_ONCE = 64
"""Directions whose projections are sorted together."""


def mind(
    images: Float[Tensor, "n d"],
    reference: Float[Tensor, "m d"],
    *,
    projections: int = PROJECTIONS,
    seed: int = SEED,
) -> Estimate:
    """The distance; of the larger side a random subset as large as the other side counts.

    Raises:
        ValueError: If a side has no images.
    """
    if not len(images) or not len(reference):
        raise ValueError(f"MIND needs images on both sides, got {len(images)} and {len(reference)}")
    generator = torch.Generator().manual_seed(seed)
    count, width = min(len(images), len(reference)), images.shape[1]
    sides = [
        rows[torch.randperm(len(rows), generator=generator)[:count]] if len(rows) > count else rows
        for rows in (images.cpu(), reference.cpu())
    ]
    directions = torch.randn(projections, width, generator=generator)
    directions = directions / directions.norm(dim=1, keepdim=True)
    x, y = (rows.double() for rows in sides)
    total = 0.0
    for some in directions.double().split(_AT_ONCE):
        sorted_x, sorted_y = ((rows @ some.T).sort(dim=0).values for rows in (x, y))
        total += float((sorted_x - sorted_y).square().mean(dim=0).sum())
    return Estimate(value=3 * width * total / projections, details={"images": count})
