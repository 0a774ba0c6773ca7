"""Inception Score (Salimans et al. 2016, section 4): exp(E KL(p(y|x) ‖ p(y))), the mean over parts of the images.

It looks at the images alone, no reference: whether each is recognised surely, and all classes occur.
"""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unirae.metrics.base import Estimate

SPLITS, SEED = 10, 2020

Order = Literal["shuffled", "file"]


def inception_score(
    logits: Float[Tensor, "n k"], *, splits: int = SPLITS, order: Order = "shuffled", seed: int = SEED
) -> Estimate:
    """Mean and spread over ``splits`` parts of about equal size.

    Args:
        order: ``shuffled`` permutes the images first, as torch-fidelity does with this seed; ``file`` takes them as
            they come, as ADM's evaluator does. Where images are sorted by class the second is lower.

    Raises:
        ValueError: If there are fewer images than parts.
    """
    count = len(logits)
    if count < splits:
        raise ValueError(f"{count} images cannot be split into {splits} parts for the Inception Score")
    logits = logits.double()
    if order == "shuffled":
        logits = logits[torch.from_numpy(np.random.RandomState(seed).permutation(count))]
    log_probabilities = logits.log_softmax(1)
    bounds = [i * count // splits for i in range(splits + 1)]
    scores = [_score(log_probabilities[bounds[i] : bounds[i + 1]]) for i in range(splits)]
    spread = float(np.std(scores))
    return Estimate(
        value=float(np.mean(scores)),
        standard_error=spread / math.sqrt(splits - 1) if splits > 1 else None,
        method=f"spread over {splits} parts",
        details={"std_over_splits": spread},
    )


def _score(log_probabilities: Float[Tensor, "n k"]) -> float:
    probabilities = log_probabilities.exp()
    divergence = probabilities * (log_probabilities - probabilities.mean(0).log())
    return float(divergence.nansum(1).mean().exp())  # 0·log 0 is 0
