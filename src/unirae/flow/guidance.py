"""Guidance as a wrapper of velocities: away from a reference that knows less.

v = v_ref + w·(v − v_ref). With the null condition's velocity as the reference this is classifier-free guidance (Ho
and Salimans, arXiv 2207.12598); with a smaller or earlier model's it is autoguidance (Karras et al., arXiv
2406.02507), which RAE uses; with that of an early head of the same network it is internal guidance, which RAEv2 (arXiv
2605.18324) uses. All only within an interval of times (Kynkäänniemi et al., arXiv 2404.07724). Departs from DiT's code,
which guides three channels only: here all channels.

On velocities or on predicted data is the same: one is an affine function of the other, and the weights add up to 1.
"""

from collections.abc import Callable
from typing import Any, Protocol, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unirae.core.errors import ConfigError
from unirae.core.precision import full_precision
from unirae.flow.velocity import Velocity

VelocityModel = Callable[[Tensor, Tensor, Any], Tensor]
"""A DiT: ``model(x, t, condition)`` → velocity, with t "b" in [0, 1] and a condition of as many samples."""


TwoHeads = Callable[[Tensor, Tensor, Any], tuple[Tensor, Tensor]]
"""The velocities of both heads of a DiT with an early one, (full, base), given as to a :data:`VelocityModel`."""


class Joinable(Protocol):
    """A batch of conditions, whatever they are."""

    def cat(self, other: Self) -> Self:
        """Join the samples of both, one after the other."""
        ...


ALWAYS = (0.0, 1.0)
"""The interval of all times."""


Scale = float | Tensor
"""Strength of guidance: one for all samples, or a tensor "b" with one for each."""


def away_from(
    reference: Float[Tensor, "b ..."], wanted: Float[Tensor, "b ..."], scale: Scale
) -> Float[Tensor, "b ..."]:
    """Extrapolate, in float32 or wider: v_ref + scale·(v − v_ref)."""
    reference = full_precision(reference)
    if isinstance(scale, Tensor):
        scale = scale.view(-1, *[1] * (reference.ndim - 1))
    return reference + scale * (full_precision(wanted) - reference)


def is_within(t: float, interval: tuple[float, float]) -> bool:
    """Whether low ≤ t ≤ high, all as float32, the type of times in the reference: 0.1·3 is within an end of 0.3."""
    low, high = map(np.float32, interval)
    return bool(low <= np.float32(t) <= high)


def guided(
    plain: Velocity,
    both: Callable[[Tensor, float], tuple[Tensor, Tensor]],
    *,
    scale: Scale,
    interval: tuple[float, float] = ALWAYS,
) -> Velocity:
    """Guided velocity: v_ref + scale·(v − v_ref) where low ≤ t ≤ high, elsewhere ``plain``; in float32 or wider.

    Args:
        plain: the velocity without guidance. Outside the interval, and everywhere at scale 1, it alone is
            called, so the reference costs nothing there.
        both: (v, v_ref) at (x, t), so that it may compute them as one batch.
        scale: w; 1 is no guidance. With one for each sample the reference is always computed.
        interval: (low, high) in shifted times, the ones that solvers pass; both ends belong to it.

    Raises:
        ConfigError: If not 0 ≤ low ≤ high ≤ 1.
    """
    low, high = interval
    if not 0 <= low <= high <= 1:
        raise ConfigError(
            f"guidance interval ({low}, {high}) must be (low, high) with 0 <= low <= high <= 1, in shifted times"
            " (t = 0 is data, t = 1 is noise)"
        )
    if not isinstance(scale, Tensor) and scale == 1:
        return plain

    def velocity(x: Float[Tensor, "b ..."], t: float) -> Float[Tensor, "b ..."]:
        if not is_within(t, interval):
            return plain(x, t)
        wanted, reference = both(x, t)
        return away_from(reference, wanted, scale)

    return velocity


def conditional(model: VelocityModel, condition: Any) -> Velocity:
    """The velocity of ``model`` for a condition, without guidance."""

    def velocity(x: Float[Tensor, "b ..."], t: float) -> Float[Tensor, "b ..."]:
        return model(x, x.new_full((len(x),), t), condition)

    return velocity


def classifier_free(
    model: VelocityModel,
    condition: Joinable,
    null: Joinable,
    *,
    scale: Scale,
    interval: tuple[float, float] = ALWAYS,
) -> Velocity:
    """Guidance away from ``model`` with the null condition of each sample, both passes as one doubled batch."""
    doubled = conditional(model, condition.cat(null))

    def both(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        wanted, reference = doubled(torch.cat([x, x]), t).chunk(2)
        return wanted, reference

    return guided(conditional(model, condition), both, scale=scale, interval=interval)


def autoguidance(
    model: VelocityModel,
    guide: VelocityModel,
    condition: Any,
    *,
    scale: Scale,
    interval: tuple[float, float] = ALWAYS,
) -> Velocity:
    """Guidance away from ``guide``, a smaller or earlier model, for the same condition."""
    plain, reference = conditional(model, condition), conditional(guide, condition)
    return guided(plain, lambda x, t: (plain(x, t), reference(x, t)), scale=scale, interval=interval)


def internal(
    model: VelocityModel,
    heads: TwoHeads,
    condition: Any,
    *,
    scale: float,
    interval: tuple[float, float] = ALWAYS,
) -> Velocity:
    """Guidance away from the early head of the same network, base + scale·(full − base), in one pass."""

    def both(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        return heads(x, x.new_full((len(x),), t), condition)

    return guided(conditional(model, condition), both, scale=scale, interval=interval)


def internal_and_classifier_free(
    model: VelocityModel,
    heads: TwoHeads,
    condition: Joinable,
    null: Joinable,
    *,
    scale: Scale,
    interval: tuple[float, float] = ALWAYS,
    internal_scales: tuple[float, float],
    internal_interval: tuple[float, float] = ALWAYS,
) -> Velocity:
    """Internal guidance of the branches with and without condition, then classifier-free, in one doubled pass.

    Args:
        scale, interval: of classifier-free guidance; scale 1 is internal guidance alone, in a pass that is not doubled.
        internal_scales: with and without condition.
    """
    doubled = condition.cat(null)
    plain = internal(model, heads, condition, scale=internal_scales[0], interval=internal_interval)
    full_alone = conditional(model, doubled)

    def both(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        twice = torch.cat([x, x])
        if not is_within(t, internal_interval):
            wanted, reference = full_alone(twice, t).chunk(2)
            return wanted, reference
        full, base = heads(twice, x.new_full((len(twice),), t), doubled)
        wanted, reference = map(away_from, base.chunk(2), full.chunk(2), internal_scales)
        return wanted, reference

    return guided(plain, both, scale=scale, interval=interval)
