"""How long the demo will take on this machine: the operations of its parts over a measured speed."""

import time
from dataclasses import dataclass
from typing import Any

TFLOP = {"encoder": 8.4, "rae": 14.6, "dit": 19.0, "words": 39.9, "scores and pictures": 2.9}
"""Of each part at its usual length, as ``benchmarks/demo.py`` counts them."""
_SPEED = {"encoder": 0.37, "rae": 0.58, "dit": 0.6, "words": 0.6, "scores and pictures": 0.47}
"""Of each part, over that of the steps that are measured here: between the script's figures on two processors."""
_START = 4.0
"""Seconds that a part takes before its first step and after its last: imports, data, checkpoints (docs/log.md)."""
_EARLIER = 0.25
"""Weight of what a part says of the speed once the next one is finished, too."""
_STEPS = 24


def measured_flops() -> float:
    """Floating-point operations a second, in steps of a small transformer as the demo trains them; takes 2 seconds."""
    import torch

    from unirae.core.hardware import (
        fastest_float32_matmul,
        fastest_num_threads,
        fastest_precision,
        float32_matmul,
    )
    from unirae.nn.block import Block

    width, mlp, tokens = 128, 512, 64 * 17
    threads = torch.get_num_threads()
    blocks = torch.nn.Sequential(
        *(Block(width=width, num_heads=4, mlp_width=mlp, norm_eps=1e-6) for _ in range(8))
    )
    optimizer = torch.optim.AdamW(blocks.parameters(), fused=True)
    x = torch.randn(64, 17, width)
    flops = 6 * tokens * sum(p.numel() for p in blocks.parameters() if p.ndim == 2)
    narrow = fastest_precision("cpu") == "bf16-mixed"
    seconds = []
    try:
        torch.set_num_threads(fastest_num_threads(threads))
        with float32_matmul():
            torch.set_float32_matmul_precision(fastest_float32_matmul("cpu"))
            for _ in range(_STEPS):
                started = time.perf_counter()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
                    loss = blocks(x).float().square().mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                seconds.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return flops / sorted(seconds)[len(seconds) // 2]


@dataclass
class Outlook:
    """Seconds that parts will take.

    Attributes:
        speed: operations a second, as :func:`measured_flops` gives them.
        work: operations that each part still needs, in order.
        correction: seconds of finished parts over those foretold; the newest one counts most, for what slows the
            machine now may not have been there before.
    """

    speed: float
    work: dict[str, float]
    correction: float = 1.0
    _foretold: float = 0.0
    _taken: float = 0.0

    def seconds(self, part: str) -> float:
        """Of one part."""
        work = self.work[part]
        return (work / (self.speed * _SPEED[part]) + _START) * self.correction if work else 0.0

    def left(self) -> float:
        """Of all parts that are not finished."""
        return sum(map(self.seconds, self.work))

    def finished(self, part: str, seconds: float) -> None:
        """Correct what is foretold of the others by what this part took."""
        foretold = self.seconds(part) / self.correction
        if foretold > 1.0:  # a part of a second says nothing
            self._foretold = _EARLIER * self._foretold + foretold
            self._taken = _EARLIER * self._taken + seconds
            self.correction = self._taken / self._foretold
        del self.work[part]

    def __str__(self) -> str:
        from unirae.training.callbacks.progress import readable_time

        parts = ", ".join(f"{part} {readable_time(self.seconds(part))}" for part in self.work)
        return f"about {readable_time(self.left())} ({parts})"


def work_left(
    configs: dict[str, dict[str, Any]], usual: dict[str, dict[str, Any]], done: dict[str, int]
) -> dict[str, float]:
    """The operations that the training parts still need.

    Args:
        configs: of the parts, as they are to run.
        usual: of their experiments as they are.
        done: the steps that each part has made.
    """
    left = {}
    for part, config in configs.items():
        usual_steps = usual[part]["trainer"]["max_steps"]
        steps = config["trainer"]["max_steps"] or usual_steps  # of epochs alone: as many as usual
        longer = (
            steps
            * config["data"]["global_batch_size"]
            / (usual_steps * usual[part]["data"]["global_batch_size"])
        )
        left[part] = TFLOP[part] * 1e12 * longer * max(0.0, 1 - done[part] / steps)
    return left
