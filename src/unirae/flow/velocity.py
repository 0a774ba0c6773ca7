"""Velocity as a function of place and time, which solvers integrate."""

from collections.abc import Callable

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""``velocity(x, t)``: dx/dt at x ("b ...") and time t in [0, 1], the same t for all samples. May answer in
half precision; solvers compute in float32 or wider. A Python float, so that no step waits for a GPU."""


class Counting:
    """A velocity that counts how often it was asked. A guided velocity counts once, whatever it calls inside."""

    def __init__(self, velocity: Velocity) -> None:
        self._velocity = velocity
        self.evaluations = 0

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Call the wrapped velocity, and count one evaluation more."""
        self.evaluations += 1
        return self._velocity(x, t)


def counting(velocity: Velocity) -> Counting:
    """Wrap ``velocity`` with a counter: ``.evaluations``."""
    return Counting(velocity)
