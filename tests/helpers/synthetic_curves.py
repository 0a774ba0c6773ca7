"""Metrics of runs that never were: a loss that decays, noise around it, a score now and then."""

import math
import random
from typing import Any

from unirae.evaluation.health.check import Curves, read_series

SETTINGS = {"model.optimizer.lr": 0.001, "data.global_batch_size": 32, "trainer.max_steps": 1000}


def rows_of(seed: int, *, steps: range = range(10, 1001, 10), factor: float = 1.0) -> list[dict[str, Any]]:
    """Rows of a healthy run; ``factor`` multiplies its loss."""
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for step in steps:
        loss = factor * (0.5 + 4 * math.exp(-step / 200)) * math.exp(draw.gauss(0, 0.05))
        rows.append(
            {
                "step": str(step),
                "train/loss": str(loss),
                "train/gan": str(draw.gauss(0, 0.3)),
                "train/images_per_s": str(100 * draw.random()),
                "val/psnr": str(10 + step / 100 + draw.gauss(0, 0.1)) if step % 500 == 0 else "",
            }
        )
    return rows


def healthy_curves(seeds: range = range(3)) -> Curves:
    """The curves of such runs."""
    runs = [read_series(rows_of(seed)) for seed in seeds]
    return Curves(name="synthetic", runs=runs, window_steps=50, settings=SETTINGS)
