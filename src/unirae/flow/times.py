"""When to look: the times that training draws, the grid that sampling walks, and the shift of both.

The larger a latent, the more noise it takes to hide it. RAE (arXiv 2510.11690, "dimension-dependent noise
schedule shift", after the resolution-dependent one of Stable Diffusion 3, Esser et al., arXiv 2403.03206)
therefore moves all times towards noise, by a factor that follows from the number of the latent's elements.
Training and sampling must use the same shift.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from unirae.core.errors import ConfigError

MAX_TIME = 0.999
"""RAE's training never asks for pure noise: raw times (before the shift) end here. RAEv2's may end at 1."""

SHIFT_BASE = 4096
"""Elements of a latent that needs no shift, as in RAE; SD-VAE's 4×32×32 has as many."""

_Time = TypeVar("_Time", Tensor, float)


def time_shift(latent_shape: tuple[int, int, int], base: int = SHIFT_BASE) -> float:
    """Time shift of a latent (C, H, W): s = max(1, √(C·H·W / base)); 768×16×16 gives 6.93."""
    return max(1.0, math.sqrt(math.prod(latent_shape) / base))


def shift_times(t: _Time, shift: float) -> _Time:
    """Shift times: t ← s·t / (1 + (s − 1)·t) for t in [0, 1]: keeps 0 and 1, moves the rest towards 1 where s > 1.

    Written as t / (t + (1 − t)/s), the same number, because this form gives exactly 1 at t = 1; the other may
    exceed 1 by a rounding error, and then an interval of guidance that ends at 1 would miss the first step.
    """
    if shift <= 0:
        raise ConfigError(f"time shift {shift} must be positive; 1 leaves the times as they are")
    return t / (t + (1 - t) / shift)


def unshift_times(t: _Time, shift: float) -> _Time:
    """The inverse of :func:`shift_times`: t ← t / (s − (s − 1)·t), which is the shift by 1/s."""
    return shift_times(t, 1 / shift)


def logit_normal_times(
    uniforms: Float[Tensor, " b"], *, mean: float = 0.0, std: float = 1.0, high: float = MAX_TIME
) -> Float[Tensor, " b"]:
    """Raw times whose logit is N(mean, std²), truncated to [0, high], from ``uniforms`` in [0, 1).

    The inverse of the distribution function (Esser et al., 2024, with the reference's truncation):
    t = sigmoid(mean + std·Φ⁻¹(u·Φ((logit(high) − mean)/std))). Float64 inside, because Φ of the bound differs
    from 1 by 2e-12 only; float32 out.
    """
    if std <= 0:
        raise ConfigError(f"the logit-normal's std={std} must be positive")
    if not 0 < high <= 1:
        raise ConfigError(f"the highest time {high} must be above 0 and at most 1")
    where = "cpu" if uniforms.device.type == "mps" else uniforms.device  # Metal has no float64
    uniform = uniforms.to(where).double()
    bound = (math.log(high / (1 - high)) - mean) / std if high < 1 else math.inf
    share = 0.5 * math.erfc(-bound / math.sqrt(2))  # Φ(bound), what the truncation leaves
    logit = mean + std * torch.special.ndtri(uniform * share)
    return logit.sigmoid().clamp(max=high).float().to(uniforms.device)


def uniform_times(uniforms: Float[Tensor, " b"], high: float = MAX_TIME) -> Float[Tensor, " b"]:
    """Raw times, uniform in [0, high), from ``uniforms`` in [0, 1)."""
    return uniforms.float() * high


TIME_KINDS = ("logit_normal", "uniform")
"""The distributions of training times by name."""


def sample_times(
    kind: str, uniforms: Float[Tensor, " b"], *, mean: float = 0.0, std: float = 1.0, high: float = MAX_TIME
) -> Float[Tensor, " b"]:
    """Raw training times in [0, high] of the distribution called ``kind``; the shift comes afterwards.

    Args:
        mean, std: of the logit-normal; a uniform distribution has neither.

    Raises:
        ConfigError: If there is no distribution of that name, or of these numbers.
    """
    if kind not in TIME_KINDS:
        raise ConfigError(f"unknown distribution of times {kind!r}; known: {', '.join(TIME_KINDS)}")
    if kind == "uniform":
        return uniform_times(uniforms, high)
    return logit_normal_times(uniforms, mean=mean, std=std, high=high)


@dataclass(frozen=True, kw_only=True)
class TimeDistribution:
    """The distribution of raw training times; for the attributes see :func:`sample_times`."""

    kind: str = "logit_normal"
    mean: float = 0.0
    std: float = 1.0
    high: float = MAX_TIME

    def sample(self, uniforms: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Times from ``uniforms`` in [0, 1)."""
        return sample_times(self.kind, uniforms, mean=self.mean, std=self.std, high=self.high)

    def describe(self) -> str:
        """Kind and numbers in a few words."""
        numbers = f"({self.mean:g}, {self.std:g})" if self.kind == "logit_normal" else ""
        return f"{self.kind}{numbers} up to {self.high:g}"


TimeGrid = Literal["reference", "to_zero", "log_odds", "linear"]

TIME_GRIDS: tuple[TimeGrid, ...] = ("reference", "to_zero", "log_odds", "linear")
"""The grids by name: RAE's, which ends at shift(1 − MAX_TIME); the same ending at data; one for few steps; RAEv2's, of
equal steps before the shift, which ends at data."""

_ODDS_MARGIN = 0.05
"""Keeps the log-odds finite at both ends of [0, 1]. 0.02 to 0.05 measured alike."""


def time_grid(num_steps: int, shift: float, kind: str = "reference") -> list[float]:
    """Grid of ``num_steps`` shifted times descending from 1, so that a solver makes ``num_steps`` − 1 steps.

    1 − linspace(0, MAX_TIME, num_steps), shifted; ``to_zero`` puts the last one to 0; for ``log_odds``, with the same
    ends, and ``linear`` see :func:`log_odds_grid` and :func:`linear_grid`. Python floats: they steer the solvers' loop
    on the host, and a tensor on a GPU would make every step wait.

    Raises:
        ConfigError: If ``num_steps`` is less than two, or there is no grid of that name.
    """
    if num_steps < 2:
        raise ConfigError(
            f"num_steps={num_steps} counts the grid's points, both ends too; it must be at least 2"
        )
    if kind not in TIME_GRIDS:
        raise ConfigError(f"unknown time grid {kind!r}; known: {', '.join(TIME_GRIDS)}")
    if kind == "log_odds":
        return log_odds_grid(num_steps, shift)
    if kind == "linear":
        return linear_grid(num_steps, shift)
    grid = [shift_times(1 - MAX_TIME * point / (num_steps - 1), shift) for point in range(num_steps)]
    return [*grid[:-1], 0.0] if kind == "to_zero" else grid


def linear_grid(num_steps: int, shift: float) -> list[float]:
    """RAEv2's grid, shift(linspace(1, 0, num_steps)), in float32 and as it writes the shift: s·t/(1 + (s − 1)·t).

    A time of it may lie at the end of an interval of guidance, and then the last digit decides. The first is 1, which
    theirs misses by a last digit at some shifts.
    """
    t = torch.linspace(1, 0, num_steps)
    return [1.0, *(shift * t / (1 + (shift - 1) * t)).tolist()[1:]]


def log_odds_grid(num_steps: int, shift: float) -> list[float]:
    """Equal steps in log((u + m)/(1 − u + m)), t = u shifted by √s, from 1 to the reference's last time.

    Log-odds of t are half the log-SNR, in which the few-step samplers of DPM-Solver (Lu et al., 2206.00927) walk;
    the margin m makes them finite at pure noise, and half the shift is a compromise: the full one leaves
    too few points for the end, where a sample gets its details (docs/sampling.md has the measurement).
    """
    half, last = math.sqrt(shift), shift_times(1 - MAX_TIME, shift)
    high, low = _log_odds(1.0), _log_odds(unshift_times(last, half))
    inner = [high + (low - high) * point / (num_steps - 1) for point in range(1, num_steps - 1)]
    return [1.0, *(shift_times(_time_of_log_odds(odds), half) for odds in inner), last]


def _log_odds(t: float) -> float:
    return math.log((t + _ODDS_MARGIN) / (1 - t + _ODDS_MARGIN))


def _time_of_log_odds(log_odds: float) -> float:
    odds = math.exp(log_odds)
    return (odds * (1 + _ODDS_MARGIN) - _ODDS_MARGIN) / (1 + odds)
