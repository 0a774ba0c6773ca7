"""Settings of the way from velocities to a sample, and the velocity that they mean."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.evaluation.sampling.requests import Request
from unirae.flow.guidance import (
    ALWAYS,
    autoguidance,
    classifier_free,
    conditional,
    internal_and_classifier_free,
)
from unirae.flow.prediction import CLAMP, clamped_velocity
from unirae.flow.solvers import Noise, Velocity, solve
from unirae.flow.times import MAX_TIME, TimeGrid, shift_times, time_grid
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.trunk_reuse import reusing_trunk
from unirae.models.text.identity import TextEncoderIdentity


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """Settings of the way from velocities to a sample.

    Attributes:
        num_steps: points of the time grid; Euler evaluates the network once less (recipe, Sampler).
        solver: euler, heun, multistep, multistep3, dopri5 or sde.
        time_grid: ``reference`` ends at shift(0.001), ``to_zero`` at 0; ``log_odds`` is for few steps; ``linear`` is
            RAEv2's, whose N steps are ``num_steps`` N + 1.
        time_shift: of the grid; None takes the one that the network was trained with.
        cfg_scale: w of v_ref + w·(v − v_ref); 1 is without guidance. The reference is the same network without label,
            or the guide where one is given (autoguidance).
        guidance_interval: (lowest, highest) shifted time at which guidance acts, inclusive.
        ig_scale: s of base + s·(full − base), internal guidance away from the early head; 1 is without.
        ig_interval: (lowest, highest) shifted time at which it acts, inclusive.
        ig_unconditional_scale: s of the branch without label where ``cfg_scale`` guides, too; None is ``ig_scale``.
        trunk_every: a DiT^DH's trunk is computed at every so-many-th evaluation and kept between; 1 is exact.
        clamp_velocity: of predicted data x̂ take (x_t − x̂)/max(t, 0.05), as RAEv2 does, in place of (x_t − x̂)/t; a grid
            of more than about 150 steps then ends beside x̂.
    """

    num_steps: int = 50
    solver: str = "euler"
    time_grid: TimeGrid = "reference"
    time_shift: float | None = None
    cfg_scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    trunk_every: int = 1
    clamp_velocity: bool = False
    ig_scale: float = 1.0
    ig_interval: tuple[float, float] = ALWAYS
    ig_unconditional_scale: float | None = None

    @property
    def ig_scales(self) -> tuple[float, float]:
        """Scales of internal guidance with and without label."""
        alone = self.ig_unconditional_scale
        return self.ig_scale, self.ig_scale if alone is None else alone

    @property
    def uses_ig(self) -> bool:
        """Whether the early head says anything about the samples."""
        return self.ig_scale != 1.0 or (self.cfg_scale != 1.0 and self.ig_scales[1] != 1.0)

    def times(self, dit: Denoiser) -> list[float]:
        """The grid for this network, from noise to data."""
        return time_grid(self.num_steps, self._shift(dit), self.time_grid)

    def solve(
        self,
        dit: Denoiser,
        velocity: Velocity,
        x: Float[Tensor, "b ..."],
        noise: Noise | None = None,
        *,
        start_time: float = 1.0,
    ) -> Float[Tensor, "b ..."]:
        """Integrate a velocity of this network over the grid, or over the part of it below ``start_time``.

        Args:
            noise: as in :func:`~unirae.flow.solvers.solve`.

        Raises:
            ConfigError: If nothing of the grid is below ``start_time``.
        """
        grid = self.times(dit)
        below = [t for t in grid if t < start_time]
        if not below or start_time > 1:
            raise ConfigError(
                f"start_time={start_time:g} must be at most 1 and above the end of the time grid, {grid[-1]:g}"
            )
        smallest = shift_times(1 - MAX_TIME, self._shift(dit)) if dit.prediction.divides_by_time else None
        return solve(self.solver, velocity, x, [start_time, *below], noise=noise, smallest_time=smallest)

    def _shift(self, dit: Denoiser) -> float:
        return dit.time_shift if self.time_shift is None else self.time_shift

    def describe(self) -> dict[str, Any]:
        """Plain values, for the record beside the images.

        Some only where they are not at their defaults: records made before there was a choice are of the same images.
        """
        return {k: v for k, v in _plain(self).items() if k not in UNRECORDED or v != UNRECORDED[k]}


def _plain(settings: SamplerSettings) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()
    }


_LATE = ("trunk_every", "clamp_velocity", "ig_scale", "ig_interval", "ig_unconditional_scale")
UNRECORDED = {key: value for key, value in _plain(SamplerSettings()).items() if key in _LATE}
"""What a record means that says nothing of these settings: their defaults."""


def guided_velocity(
    dit: Denoiser, wanted: Request | Condition | Tensor, settings: SamplerSettings, guide: Denoiser | None
) -> Velocity:
    """The velocity function that the settings mean, for one solution: it may remember.

    Args:
        wanted: a request for some images, or their condition alone; a plain tensor is labels.

    Raises:
        ConfigError: If this network, or its guide, cannot follow the settings.
    """
    request = wanted if isinstance(wanted, Request) else Request(condition=Condition.of(wanted))
    if not settings.clamp_velocity:
        return _guided_velocity(dit, request, settings, guide)
    networks = [network for network in (dit, guide) if network is not None]
    if not all(network.prediction.divides_by_time for network in networks):
        raise ConfigError(
            "clamp_velocity is for networks that predict data; this one, or its guide, predicts the velocity"
        )
    velocity = _guided_velocity(dit, request, settings, guide)
    return lambda x, t: clamped_velocity(velocity(x, t), t, CLAMP)


def _guided_velocity(
    dit: Denoiser, request: Request, settings: SamplerSettings, guide: Denoiser | None
) -> Velocity:
    condition, interval = request.condition, settings.guidance_interval
    scale = _scale(request, settings)
    _check_negative(request, scale, guide)
    if settings.trunk_every > 1 and settings.solver == "dopri5":
        raise ConfigError(
            "trunk_every is for fixed steps: dopri5 takes what it changes for an error of its own"
        )
    if settings.uses_ig or (request.cfg_scale is not None and settings.ig_scales[1] != 1.0):
        return _internally_guided(dit, request, settings, guide)
    model = reusing_trunk(dit, settings.trunk_every)
    if guide is not None:
        _check_same_texts(dit, guide)
        if guide.latent_shape != dit.latent_shape or guide.num_classes != dit.num_classes:
            raise ConfigError(
                f"the guide makes latents {guide.latent_shape} of {guide.num_classes} classes, the model "
                f"{dit.latent_shape} of {dit.num_classes}; a guide must be trained on the same latents and labels"
            )
        reference = reusing_trunk(guide, settings.trunk_every)
        return autoguidance(model, reference, condition, scale=scale, interval=interval)
    if isinstance(scale, Tensor) or scale != 1.0:
        null = _null(dit, request, scale)
        return classifier_free(model, condition, null, scale=scale, interval=interval)
    return conditional(model, condition)


def _internally_guided(
    dit: Denoiser, request: Request, settings: SamplerSettings, guide: Denoiser | None
) -> Velocity:
    """The velocity with internal guidance, alone or before classifier-free guidance."""
    what = f"internal guidance (ig_scale={settings.ig_scale:g})"
    if guide is not None:
        raise ConfigError(
            f"{what} and a guide are two kinds of autoguidance; take one: ig_scale=1, or no guide"
        )
    if settings.trunk_every > 1:
        raise ConfigError(f"{what} reads the trunk at every evaluation; trunk_every must be 1")
    if dit.base_output is None:
        raise ConfigError(
            f"{what} needs a network with an early head, and this one has none; ig_scale=1 is without"
        )
    scale = _scale(request, settings)
    return internal_and_classifier_free(
        dit,
        dit.both_heads,
        request.condition,
        _null(dit, request, scale),
        scale=scale,
        interval=settings.guidance_interval,
        internal_scales=settings.ig_scales,
        internal_interval=settings.ig_interval,
    )


def _scale(request: Request, settings: SamplerSettings) -> float | Tensor:
    """Strength of classifier-free guidance: the sampler's, or one for each sample where some have their own."""
    own = request.cfg_scale
    return settings.cfg_scale if own is None else torch.where(own.isnan(), settings.cfg_scale, own)


def _check_negative(request: Request, scale: float | Tensor, guide: Denoiser | None) -> None:
    """Refuse a negative prompt that nothing would be guided away from."""
    alone = not isinstance(scale, Tensor) and scale == 1.0
    if request.null is not None and (guide is not None or alone):
        raise ConfigError(
            f"{argument('sampling.negative_prompt')} acts by classifier-free guidance alone: set "
            f"{argument('sampling.cfg_scale')} above 1, and give no guide"
        )


def _check_same_texts(dit: Denoiser, guide: Denoiser) -> None:
    """Refuse a guide that reads no text where the model does, the reverse, or the tokens of another text encoder."""
    if guide.reads_text != dit.reads_text:
        raise ConfigError(
            "a model that is conditioned on text and one that is on labels cannot guide each other"
        )
    if dit.text_identity is None or guide.text_identity is None:
        return
    own, other = (TextEncoderIdentity.from_dict(one.text_identity or {}) for one in (dit, guide))
    if different := own.differences(other):
        raise ConfigError(
            f"the guide reads the tokens of another text encoder than the model ({'; '.join(different)}); a guide must "
            "be trained on the same"
        )


def _null(dit: Denoiser, request: Request, scale: float | Tensor) -> Condition:
    if request.null is not None:
        return request.null
    if (isinstance(scale, Tensor) or scale != 1.0) and not dit.has_null_condition:
        raise ConfigError(
            f"cfg_scale={scale} needs a model with labels; this one was trained without. Use 1, or a guide"
        )
    return dit.null_condition(len(request.condition), request.condition.device)
