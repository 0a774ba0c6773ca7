"""Retrieval: is the picture that a prompt means among those that lie nearest to what was made of it?

Each sample is made for one picture of a bank, by words or by class, and the bank's pictures are sorted by their
distance to it. Chance finds the right one among the nearest k of n with k/n. A generator that knows only a picture's
class does better than that, and one that reads its name should do better still. In which space the distances are taken
is a choice, so there are two: the tokens of an encoder, and thumbnails of 8 × 8 pixels, which no network has made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from unirae.core.images import to_float

NEAREST = (1, 5, 20)
"""Numbers of nearest pictures among which the right one is looked for."""
_THUMBNAIL_PX = 8


@dataclass(frozen=True, kw_only=True)
class Share:
    """Share of samples whose picture is among the nearest.

    Attributes:
        value: in [0, 1].
        error: standard error over the pictures: of each picture the mean over its samples counts once.
    """

    value: float
    error: float


def thumbnails(images: UInt8[Tensor, "n 3 H W"]) -> Float[Tensor, "n d"]:
    """Images at 8 × 8 px by means over areas, each as one vector of values in [0, 1]."""
    return F.adaptive_avg_pool2d(to_float(images), _THUMBNAIL_PX).flatten(1)


def ranks(
    samples: Float[Tensor, "m d"], bank: Float[Tensor, "n d"], meant: Int64[Tensor, " m"]
) -> Int64[Tensor, " m"]:
    """Rank of the picture that each sample is meant to be, 0 for the nearest, by Euclidean distance.

    Of pictures at the same distance the meant one comes last, so that equal pictures cannot be found by luck.

    Args:
        meant: the row of ``bank`` for each sample.
    """
    distances = torch.cdist(samples.double(), bank.double())
    own = distances.gather(1, meant[:, None])
    return (distances <= own).sum(1) - 1


def shares_within(
    found: Int64[Tensor, " m"], meant: Int64[Tensor, " m"], *, nearest: Sequence[int] = NEAREST
) -> dict[int, Share]:
    """Share of samples whose picture is among the nearest k, for each k.

    Args:
        found: ranks.
        meant: the picture of each sample; samples of one picture are not independent of each other.
    """
    pictures, which = meant.unique(return_inverse=True)
    result = {}
    for k in nearest:
        hits = torch.zeros(len(pictures), dtype=torch.float64).index_add_(0, which, (found < k).double())
        hits = hits / torch.bincount(which)
        spread = float(hits.std()) if len(hits) > 1 else math.nan
        result[k] = Share(value=float((found < k).double().mean()), error=spread / math.sqrt(len(hits)))
    return result


def exchanged_within_classes(labels: Int64[Tensor, " n"], *, seed: int = 0) -> Int64[Tensor, " n"]:
    """For each picture another one of its class, drawn by the seed, no one by two; itself where it is alone."""
    draws = torch.Generator().manual_seed(seed)
    partner = torch.arange(len(labels))
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        order = own[torch.randperm(len(own), generator=draws)]
        partner[order] = order.roll(1)
    return partner
