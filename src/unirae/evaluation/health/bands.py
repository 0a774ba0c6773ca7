"""The band around curves of several runs, column by column.

A logged value is that of a single step, which is noisy, so all runs are smoothed alike first: by a trailing median over
``window_steps``, which a lone spike does not move and which is known while a run goes on. The band reaches from the
least to the greatest of the reference runs at each step, widened on both sides by the largest of

- ``SPREADS`` times how far these runs lie apart within a window of it: another seed may lie a little outside of these;
- ``NOISES`` standard deviations of single values, estimated from neighbouring ones: all there is where the reference is
  one run;
- ``FLOOR``: what nobody need care about.

Errors, norms and weights are positive and are measured by their logarithms: their band is a factor up and down. What
may be negative, is a share or is in decibels is taken as it is (``LINEAR``). Nothing is judged in the first
``SETTLING_WINDOWS`` windows, where the learning rate warms up and seeds differ most.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

Points = list[tuple[int, float]]
"""(step, value) of a column, oldest first."""
Series = dict[str, Points]
"""Points of several columns, by column, without what was not logged."""


WINDOW_ROWS = 5
"""Logged values in a window."""
SETTLING_WINDOWS = 2
SPREADS, NOISES, FLOOR = 1.0, 3.0, 0.03
"""The widths of a band, see above; ``FLOOR`` is a factor of 1.03, or that share of a column's largest value."""
LINEAR = (
    "train/gan",
    "train/logits_real",
    "train/logits_fake",
    "train/disc_accuracy",
    "val/psnr",
    "val/ssim",
)
_NOISE_ROWS = 10
"""Fewer values than this say nothing of their noise; if of one run, no band can be made of them."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Range in which the smoothed values of a healthy run lie."""

    steps: tuple[int, ...]
    low: tuple[float, ...]
    middle: tuple[float, ...]
    """The median of the reference runs."""
    high: tuple[float, ...]
    settled_after: int
    """Steps from a run's first value until its window is full; it is judged from then on."""
    log: bool

    def at(self, step: int) -> tuple[float, float, float] | None:
        """The limits (low, middle, high), interpolated; None before the first step and after the last."""
        if not self.steps[0] <= step <= self.steps[-1]:
            return None
        right = bisect_left(self.steps, step)
        left = max(right - 1, 0)
        gap = self.steps[right] - self.steps[left]
        share = (step - self.steps[left]) / gap if gap else 0.0
        low, middle, high = (
            v[left] + share * (v[right] - v[left]) for v in (self.low, self.middle, self.high)
        )
        return low, middle, high


class Window:
    """The median of the last ``steps`` steps' values."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._values: deque[tuple[int, float]] = deque()

    def add(self, step: int, value: float) -> float:
        """Take the next value, and give the median of the window that it completes."""
        self._values.append((step, value))
        while self._values[0][0] <= step - self.steps:
            self._values.popleft()
        return median(v for _, v in self._values)


def smoothed(points: Points, window_steps: int) -> Points:
    """Smooth a column: at each step the median of the finite values of the ``window_steps`` that end there."""
    window = Window(window_steps)
    return [(step, window.add(step, value)) for step, value in points if math.isfinite(value)]


def window_of(run: Series) -> int:
    """The window, in steps, that suits how often a run was logged."""
    return WINDOW_ROWS * _gap(max(run.values(), key=len))


def make_band(column: str, runs: Sequence[Points], window_steps: int) -> Band:
    """The band of one column, from the finite values that each run logged; without steps where they are too few."""
    runs = [[(step, value) for step, value in points if math.isfinite(value)] for points in runs]
    log = column not in LINEAR and all(value > 0 for points in runs for _, value in points)
    scale, back = (math.log, math.exp) if log else (float, float)
    gap = _gap(runs[0])
    settled_after = max(window_steps - gap, 0)
    curves = [dict(smoothed(points, window_steps)) for points in runs]
    start = max(runs[0][0][0] + settled_after, SETTLING_WINDOWS * window_steps)
    steps = [step for step, _ in runs[0] if step >= start and all(step in curve for curve in curves)]
    if len(runs) == 1 and len(runs[0]) < _NOISE_ROWS:
        steps = []
    values = {step: [scale(curve[step]) for curve in curves] for step in steps}
    scaled = [[scale(value) for _, value in points] for points in runs]
    floor = max(_least(scaled, log=log), NOISES * median(map(_noise, scaled)))
    margins = {step: max(SPREADS * _spread_near(step, values, window_steps), floor) for step in steps}
    return Band(
        steps=tuple(steps),
        low=tuple(back(min(values[step]) - margins[step]) for step in steps),
        middle=tuple(back(median(values[step])) for step in steps),
        high=tuple(back(max(values[step]) + margins[step]) for step in steps),
        settled_after=settled_after,
        log=log,
    )


def _spread_near(step: int, values: dict[int, list[float]], window_steps: int) -> float:
    """The largest distance between runs within a window of a step."""
    return max(max(here) - min(here) for s, here in values.items() if abs(s - step) <= window_steps)


def _gap(points: Points) -> int:
    """Steps from one value to the next, as a rule."""
    steps = [step for step, _ in points]
    return round(median(b - a for a, b in pairwise(steps))) if len(steps) > 1 else 1


def _noise(values: Sequence[float]) -> float:
    """The standard deviation of values around a slow trend, from the differences of neighbours; robust to spikes."""
    if len(values) < _NOISE_ROWS:
        return 0.0
    return median(abs(b - a) for a, b in pairwise(values)) / (0.6745 * math.sqrt(2))


def _least(runs: Sequence[Sequence[float]], *, log: bool) -> float:
    """Least width, ``FLOOR`` on the scale of the band."""
    return math.log1p(FLOOR) if log else FLOOR * max(abs(value) for run in runs for value in run)
