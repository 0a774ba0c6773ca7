"""A grid of samplers, the scores at its points, and remarks on the best one."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from itertools import product
from typing import Any

from unirae.core.arguments import argument
from unirae.evaluation.results.comparison import noise_of_difference
from unirae.evaluation.results.result_file import Result
from unirae.evaluation.results.score_families import family

ALWAYS = (0.0, 1.0)
_INTERVAL_OF = {"cfg_scale": "guidance_interval", "ig_scale": "ig_interval"}
"""Scales of guidance, 1 of which is without, and the intervals in which they act."""


@dataclass(frozen=True, kw_only=True, order=True)
class Point:
    """A point of the grid: a sampler.

    Attributes:
        weights: which average of the network: ``EMA 0.9995``, or ``raw``.
        guidance_interval: (lowest, highest) time with guidance; all times where the scale is 1, which is without.
        ig_interval, ig_scale: the same of internal guidance.
    """

    weights: str
    solver: str
    num_steps: int
    guidance_interval: tuple[float, float]
    cfg_scale: float
    ig_interval: tuple[float, float] = ALWAYS
    ig_scale: float = 1.0

    def __post_init__(self) -> None:
        for scale, interval in _INTERVAL_OF.items():
            if getattr(self, scale) == 1.0:  # then nothing depends on it
                object.__setattr__(self, interval, ALWAYS)

    @property
    def interval_text(self) -> str:
        """Guidance interval as text, ``0.1-0.9``; a dash without guidance."""
        return _interval_text(self.guidance_interval, self.cfg_scale)

    @property
    def ig_interval_text(self) -> str:
        """Interval of internal guidance as text; a dash without."""
        return _interval_text(self.ig_interval, self.ig_scale)

    def __str__(self) -> str:
        label = [] if self.cfg_scale == 1.0 else [f"cfg {self.cfg_scale:g} in {self.interval_text}"]
        internal = [] if self.ig_scale == 1.0 else [f"ig {self.ig_scale:g} in {self.ig_interval_text}"]
        guidance = label + internal or ["no guidance"]
        return ", ".join([*guidance, f"{self.solver} {self.num_steps}", self.weights])


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A point of the grid with its result."""

    point: Point
    result: Result


def grid(
    *,
    weights: Sequence[str],
    solvers: Sequence[str],
    num_steps: Sequence[int],
    intervals: Sequence[tuple[float, float]],
    cfg_scales: Sequence[float],
    ig_intervals: Sequence[tuple[float, float]] = (ALWAYS,),
    ig_scales: Sequence[float] = (1.0,),
) -> list[Point]:
    """The product, in this order; each point once, although intervals share the one without guidance."""
    axes: dict[str, Sequence[Any]] = {
        "weights": weights,
        "solver": solvers,
        "num_steps": num_steps,
        "guidance_interval": intervals,
        "cfg_scale": cfg_scales,
        "ig_interval": ig_intervals,
        "ig_scale": ig_scales,
    }
    points = [Point(**dict(zip(axes, values, strict=True))) for values in product(*axes.values())]
    return list(dict.fromkeys(points))


def point_of(sampler: dict[str, Any]) -> Point:
    """The point of the grid in the sampler's record of a result, which leaves out internal guidance where it is off."""
    named = [field for field in fields(Point) if field.default is MISSING or field.name in sampler]
    plain: dict[str, Any] = {field.name: sampler[field.name] for field in named}
    plain |= {name: tuple(plain[name]) for name in _INTERVAL_OF.values() if name in plain}
    return Point(**plain)


def best(scored: Sequence[Scored], name: str) -> Scored:
    """The point with the best value of a score, the first of equal ones."""
    sign = 1.0 if family(name).better == "lower" else -1.0
    return min(scored, key=lambda s: sign * s.result.metrics[name])


def within_noise(scored: Sequence[Scored], name: str) -> list[Scored]:
    """The points whose score the best one's does not exceed by more than the noise; without the best itself.

    Those of unknown noise are not among them.
    """
    top = best(scored, name)
    found = []
    for other in scored:
        noise = noise_of_difference(top.result.standard_error(name), other.result.standard_error(name))
        difference = abs(other.result.metrics[name] - top.result.metrics[name])
        if other is not top and noise is not None and difference <= noise:
            found.append(other)
    return found


def remarks(scored: Sequence[Scored], name: str) -> list[str]:
    """Remarks on the best point: how sure it is, and whether the optimum may lie outside the grid."""
    top, said = best(scored, name), []
    if len(scored) > 1:
        said += _of_noise(scored, name)
    for axis, step in (("cfg_scale", "scales"), ("ig_scale", "scales"), ("num_steps", "numbers of steps")):
        values = sorted({getattr(s.point, axis) for s in scored})
        value = getattr(top.point, axis)
        if len(values) == 1 or value not in (values[0], values[-1]):
            continue
        if axis in _INTERVAL_OF and value == 1.0:  # guidance only hurts; below 1 lies nothing to try
            continue
        end = "largest" if value == values[-1] else "smallest"
        said.append(
            f"the best {name} lies at the edge of the grid, the {end} {axis} {value:g}: try {step} beyond it"
        )
    return said


def _of_noise(scored: Sequence[Scored], name: str) -> list[str]:
    errors = [s.result.standard_error(name) for s in scored]
    if unknown := errors.count(None):
        where = "" if unknown == len(errors) else f" at {unknown} of {len(errors)} points"
        remedy = argument("confidence", "bootstrap")
        hint = f"; repeat the sweep with {remedy}" if family(name).frechet else ""
        return [f"the noise of {name} is not known{where}, so the best may be so by chance{hint}"]
    close = within_noise(scored, name)
    if not close:
        return []
    shown = "; ".join(str(s.point) for s in close[:3]) + (
        f"; and {len(close) - 3} more" if len(close) > 3 else ""
    )
    return [
        f"{name} of {len(close)} other point{'s' if len(close) > 1 else ''} is within the noise of the best ({shown}); "
        "more samples would tell them apart. The noise is an upper bound, since all points share their seeds"
    ]


def lines(scored: Sequence[Scored], axis: str) -> dict[Point, list[Scored]]:
    """Points that differ along ``axis`` alone, in its order; the one without guidance is on the line of every interval.

    Returns:
        by a point that stands for its line, with the axis's value set to a constant.
    """
    interval = _INTERVAL_OF.get(axis)
    found: dict[Point, list[Scored]] = {}
    if interval is None:
        for s in scored:
            found.setdefault(replace(s.point, **{axis: 0}), []).append(s)
    else:
        used = {getattr(s.point, interval) for s in scored if getattr(s.point, axis) != 1.0} or {ALWAYS}
        for s in scored:
            shared = getattr(s.point, axis) == 1.0
            for one in sorted(used) if shared else [getattr(s.point, interval)]:
                found.setdefault(replace(s.point, **{axis: 0.0, interval: one}), []).append(s)
    return {key: sorted(of, key=lambda s: getattr(s.point, axis)) for key, of in sorted(found.items())}


def _interval_text(interval: tuple[float, float], scale: float) -> str:
    return "-" if scale == 1.0 else "{:g}-{:g}".format(*interval)
