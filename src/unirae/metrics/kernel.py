"""Kernel distance between two sets of features (Bińkowski et al. 2018, section 4; KID in Inception's features).

    MMD² = E k(x, x') + E k(y, y') − 2·E k(x, y),   k(a, b) = (a·b / d + 1)³

by the unbiased estimator on random subsets, averaged. Unbiased means that the score does not depend on the number of
images, and that it may be slightly negative. Subsets are drawn as torch-fidelity draws them, and kernels are float32 as
there: their rounding moves the score by about 1e-8, which is a part in a thousand where two sets are nearly equal.
"""

import math

import numpy as np
from jaxtyping import Float
from torch import Tensor

from unirae.metrics.base import Estimate

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020
_LARGEST_PART = 0.8


def kernel_distance(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = SEED,
) -> Estimate:
    """Mean over ``subsets`` pairs of subsets; where there are fewer images than ``subset_size``, of all images.

    Raises:
        ValueError: If a side has fewer than two images.
    """
    size = min(subset_size, len(a), len(b))
    if size < 2:
        raise ValueError(
            f"a kernel distance needs at least 2 images on both sides, got {len(a)} and {len(b)}"
        )
    x, y = (rows.float().numpy() for rows in (a, b))
    draws = np.random.RandomState(seed)
    distances = []
    for _ in range(subsets):
        chosen_x = x[draws.choice(len(x), size, replace=False)]
        chosen_y = y[draws.choice(len(y), size, replace=False)]
        distances.append(_unbiased(chosen_x, chosen_y))
    spread = float(np.std(distances))
    error = _error_of_all(spread, size / min(len(a), len(b)))
    return Estimate(
        value=float(np.mean(distances)),
        standard_error=error,
        method=None if error is None else f"spread over subsets of {size}, scaled to all images",
        details={"std_over_subsets": spread, "subset_size": size},
    )


def _error_of_all(spread: float, part: float) -> float | None:
    """The error over all images, from the spread of subsets that hold a part of them each.

    Drawn without replacement, subsets of a part p spread by σ·√((1 − p)/p) where all images have an error of σ. Where
    they hold nearly all images they all are alike, and nothing follows. (Of two equal distributions the estimator's
    error falls faster, as 1/n; what is stated is then an upper bound.)
    """
    return spread * math.sqrt(part / (1.0 - part)) if part <= _LARGEST_PART else None


def _unbiased(x: np.ndarray, y: np.ndarray) -> float:
    n = len(x)
    within = _sum_off_diagonal(_kernel(x, x)) + _sum_off_diagonal(_kernel(y, y))
    return float(within / (n * (n - 1)) - 2 * _kernel(x, y).sum(axis=0).sum() / (n * n))


def _sum_off_diagonal(kernel: np.ndarray) -> np.floating:
    return (kernel.sum(axis=1) - np.diagonal(kernel)).sum()


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T * (1.0 / x.shape[1]) + 1.0) ** 3
