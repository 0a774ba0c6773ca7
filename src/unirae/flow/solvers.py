"""Solvers of dx/dt = v(x, t) along descending times, from noise to data.

``times`` are the N points of :func:`unirae.flow.times.time_grid`; fixed solvers make N − 1 steps. x never gets
narrower than float32, and the caller's x is not written to. Gradients are the caller's business: sampling wants
``torch.inference_mode()`` around it.

| name | evaluations | order | |
|---|---|---|---|
| ``euler`` | N − 1 | 1 | the reference's default |
| ``heun`` | 2(N − 1) | 2 | trapezoidal corrector |
| ``multistep`` | N − 1 | 2 | Adams–Bashforth 2 |
| ``multistep3`` | N − 1 | 3, its start 1 and 2 | Adams–Bashforth 3 in the steps' number, for few steps |
| ``dopri5`` | adaptive | 5 | only the ends of ``times`` count |
| ``sde`` | N − 1 | 1 (weak) | Euler–Maruyama, fresh noise in every step but the last |

The velocity of a network that predicts data, (x − x̂)/t, does not exist at t = 0, where ``heun`` and ``dopri5`` would
ask for it if times end at data; with ``smallest_time`` their last step is Euler's, which lands on x̂.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial import Polynomial
from torch import Tensor

from unirae.core.errors import ConfigError
from unirae.core.precision import full_precision
from unirae.flow.prediction import noise_from_velocity
from unirae.flow.velocity import Counting, Velocity, counting

__all__ = [
    "SOLVERS", "Counting", "Noise", "Velocity", "counting", "dopri5", "euler", "euler_maruyama", "heun",
    "multistep", "multistep3", "solve",
]  # fmt: skip

Noise = Callable[[int], Tensor]
"""``noise(k)``: N(0, 1) of x's shape for step k = 0 … N − 3, drawn by the caller, so that draws stay keyed."""


def euler(velocity: Velocity, x: Float[Tensor, "b ..."], times: Sequence[float]) -> Float[Tensor, "b ..."]:
    """Integrate by Euler's method: x ← x + (t' − t)·v(x, t)."""
    x = full_precision(x)
    for t, t_next in pairwise(times):
        x = x + (t_next - t) * full_precision(velocity(x, t))
    return x


def heun(velocity: Velocity, x: Float[Tensor, "b ..."], times: Sequence[float]) -> Float[Tensor, "b ..."]:
    """Euler's step, then again with the mean of the velocities at both ends (Karras et al., 2206.00364, alg. 1).

    Unlike there the step to t = 0 is corrected too: v has no division by t, and a shifted grid's last step is
    its longest. An Euler step there made the error up to 10 times larger on Gaussian mixtures; only
    for nearly discrete data (σ = 0.05, s = 6.93) at few steps was it the better one.
    """
    x = full_precision(x)
    for t, t_next in pairwise(times):
        here = full_precision(velocity(x, t))
        there = full_precision(velocity(x + (t_next - t) * here, t_next))
        x = x + (t_next - t) * 0.5 * (here + there)
    return x


def multistep(
    velocity: Velocity, x: Float[Tensor, "b ..."], times: Sequence[float]
) -> Float[Tensor, "b ..."]:
    """Adams–Bashforth 2 with variable steps: x ← x + h·(v + h/(2h₋)·(v − v₋)), one evaluation a step.

    The first step is Euler's. Chosen by measurement over DPM-Solver++(2M) (Lu et al., arXiv 2211.01095), which
    extrapolates the predicted data in λ = log((1 − t)/t). That λ is infinite at t = 1 and 0, so two or three
    steps fall back to first order, and on RAE's shifted grids these are long ones. Relative distance to a fine
    solution at 50 points, AB2 : 2M : Euler, on the reference's small DiT^DH 6e-5 : 1.4e-3 : 1.8e-3 (grid to zero
    7e-5 : 2e-4 : 1.8e-3), on a Gaussian mixture in 64 dimensions (10 modes, σ = 0.5, s = 6.93) 1.6e-3 : 1e-1 :
    5e-2, both on the reference's grid. Not so for nearly discrete data (σ = 0.05, s = 6.93): there 2.7e-2 :
    1.4e-2 : 3.1e-2, and with as few as 10 points AB2 loses to Euler, 1.5e-1 to 4e-2.
    """
    x = full_precision(x)
    before: tuple[Tensor, float] | None = None
    for t, t_next in pairwise(times):
        step = t_next - t
        here = slope = full_precision(velocity(x, t))
        if before is not None:
            last, last_step = before
            slope = here + (step / (2 * last_step)) * (here - last)
        x = x + step * slope
        before = here, step
    return x


def multistep3(
    velocity: Velocity, x: Float[Tensor, "b ..."], times: Sequence[float]
) -> Float[Tensor, "b ..."]:
    """Adams–Bashforth 3 on the clock of its grid, one evaluation a step: x ← x + Σ_j w_j·v_{k−j}.

    The last three velocities are continued by a parabola in the number k of the step, not in t, as DEIS (Zhang and
    Chen, arXiv 2204.13902) and DPM-Solver continue in log-SNR: w_j = ∫ L_j(k)·t'(k) dk over the step, L_j Lagrange's
    polynomials of 0, −1, −2. So the grid says where velocities change fast, and with ``log_odds`` nothing is infinite
    at either end. 9 evaluations then come closer to a fine solution than Euler's 49 on the reference's grid on
    most problems (docs/sampling.md). A parabola in t did no better than Euler with as few steps. Euler's
    and Adams–Bashforth's second step start it, so the error still falls with the square of the step in the end.
    """
    x = full_precision(x)
    slopes: list[Tensor] = []
    for number, t in enumerate(times[:-1]):
        slopes = [full_precision(velocity(x, t)), *slopes[:2]]
        weights = _adams_weights(times, number, order=len(slopes))
        x = x + sum(weight * slope for weight, slope in zip(weights, slopes, strict=True))
    return x


def _adams_weights(times: Sequence[float], number: int, *, order: int) -> list[float]:
    """∫₀¹ L_j(k)·t'(k) dk, where k counts from the point ``number``; t(k) is the cubic through four points around."""
    near = range(max(0, number - 1), min(len(times), number + 3))
    clock = _through([point - number for point in near], [times[point] for point in near]).deriv()
    past = [-j for j in range(order)]
    bases = [_through(past, [float(j == own) for j in range(order)]) for own in range(order)]
    return [float((basis * clock).integ(lbnd=0)(1.0)) for basis in bases]


def _through(points: Sequence[int], values: Sequence[float]) -> Polynomial:
    """The polynomial through (point, value)."""
    return Polynomial(np.linalg.solve(np.vander(points, increasing=True), values))


def dopri5(
    velocity: Velocity,
    x: Float[Tensor, "b ..."],
    times: Sequence[float],
    *,
    rtol: float,
    atol: float,
    smallest_time: float = 0.0,
) -> Float[Tensor, "b ..."]:
    """Dormand and Prince's adaptive method by torchdiffeq, from times[0] to times[-1].

    A step is accepted when every sample's own error (root mean square) keeps the tolerances. The steps are
    still shared, so within the tolerance a result depends on its batch. The host waits for every step.

    Args:
        smallest_time: with one, no time below is asked; without, the last step may reach beyond the end.
    """
    from torchdiffeq import odeint  # brings scipy's integrators, a second

    x = full_precision(x)
    clock = torch.float32 if x.device.type == "mps" else torch.float64  # Metal has no float64
    ends = torch.tensor([times[0], times[-1]], device=x.device, dtype=clock)

    def worst_sample(error: Tensor) -> Tensor:
        return error.reshape(len(x), -1).square().mean(1).sqrt().max()

    def drift(t: Tensor, x: Tensor) -> Tensor:
        return full_precision(velocity(x, min(1.0, max(smallest_time, float(t)))))

    options = {"norm": worst_sample, "dtype": clock}
    if smallest_time:
        options["step_t"] = ends[1:]  # else the last step interpolates between times around the end
    found = odeint(drift, x, ends, rtol=rtol, atol=atol, method="dopri5", options=options)
    assert isinstance(found, Tensor)
    return found[-1]


def euler_maruyama(
    velocity: Velocity, x: Float[Tensor, "b ..."], times: Sequence[float], noise: Noise
) -> Float[Tensor, "b ..."]:
    """The reverse-time SDE dx = v dt − ½·w·score dt + √w dW with w(t) = t (SiT, Ma et al. 2024, 2401.08740).

    It has the marginals of the ODE for every w ≥ 0 (their w = σ_t). On the straight path
    score = −(x + (1 − t)·v)/t, so with w = t its division by t cancels and nothing is singular at either end:
    x ← x − h·(v + ½·(x + (1 − t)·v)) + √(t·h)·noise, h = t − t'. The last step is Euler's without noise, which
    at t' = 0 gives the expected data.
    """
    x = full_precision(x)
    for number, (t, t_next) in enumerate(pairwise(times[:-1])):
        step = t - t_next
        slope = full_precision(velocity(x, t))
        drift = slope + 0.5 * noise_from_velocity(x, slope, t)
        x = x - step * drift + math.sqrt(t * step) * noise(number).to(x)
    return euler(velocity, x, times[-2:])


_FIXED = {"euler": euler, "heun": heun, "multistep": multistep, "multistep3": multistep3}

SOLVERS = (*_FIXED, "dopri5", "sde")
"""The solvers by name."""


def solve(
    name: str,
    velocity: Velocity,
    x: Float[Tensor, "b ..."],
    times: Sequence[float],
    *,
    noise: Noise | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    smallest_time: float | None = None,
) -> Float[Tensor, "b ..."]:
    """Integrate from times[0] to times[-1] by the solver called ``name``; tolerances are for ``dopri5``.

    Args:
        smallest_time: where the velocity does not exist at t = 0: ``dopri5`` asks for none at a smaller time, ``heun``
            for none at 0, and the rest of the way is a step of Euler's.

    Raises:
        ConfigError: If there is no solver of that name, the times do not descend in [0, 1], or ``sde`` has no
            noise.
    """
    descending = len(times) > 1 and all(t > t_next for t, t_next in pairwise(times))
    if not (descending and times[0] <= 1 and times[-1] >= 0):
        raise ConfigError(
            f"times must be two or more and descend within [0, 1], as time_grid's do, not {times}"
        )
    if smallest_time is not None and times[-1] == 0 and name in ("heun", "dopri5"):
        before = times[:-1] if name == "heun" else [times[0], min(smallest_time, times[0])]
        if before[0] > before[-1]:
            x = solve(name, velocity, x, before, rtol=rtol, atol=atol, smallest_time=smallest_time)
        return euler(velocity, x, [before[-1], 0.0])
    if name in _FIXED:
        return _FIXED[name](velocity, x, times)
    if name == "dopri5":
        return dopri5(velocity, x, times, rtol=rtol, atol=atol, smallest_time=smallest_time or 0.0)
    if name == "sde":
        if noise is None:
            raise ConfigError(
                "the sde solver needs noise=: a function from a step's number to N(0, 1) like x"
            )
        return euler_maruyama(velocity, x, times, noise)
    raise ConfigError(f"unknown solver {name!r}; known: {', '.join(SOLVERS)}")
