"""Sampler from labels and a seed to images: noise, the probability-flow ODE or its SDE, guidance, the decoder.

Image number i of a seed is a function of (seed, i) and its label alone: its noise is addressed by them, not drawn from
a stream. So neither the batch size nor the number of processes changes what is sampled, beyond the last digits in
which matrix products of different shapes differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unirae.core.errors import ConfigError, NonFiniteError
from unirae.core.exact import NETWORK_CHUNK, in_chunks
from unirae.core.keyed_random import Stream, normal, sample_keys, uniform
from unirae.evaluation.passes.encoding import inference_context
from unirae.evaluation.passes.reading import Precision, Progress
from unirae.flow.guidance import (
    ALWAYS,
    autoguidance,
    classifier_free,
    conditional,
    internal_and_classifier_free,
)
from unirae.flow.prediction import CLAMP, clamped_velocity
from unirae.flow.solvers import Noise, Velocity, counting, solve
from unirae.flow.times import MAX_TIME, TimeGrid, shift_times, time_grid
from unirae.models.checkpoints.pairing import decoder_for
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.trunk_reuse import reusing_trunk
from unirae.models.rae import RAE
from unirae.nn.kernels.narrow_weights import NarrowWeights


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
        self, dit: Denoiser, velocity: Velocity, x: Float[Tensor, "b ..."], noise: Noise | None = None
    ) -> Float[Tensor, "b ..."]:
        """Integrate a velocity of this network over the grid; ``noise`` as in :func:`~unirae.flow.solvers.solve`."""
        smallest = shift_times(1 - MAX_TIME, self._shift(dit)) if dit.prediction.divides_by_time else None
        return solve(self.solver, velocity, x, self.times(dit), noise=noise, smallest_time=smallest)

    def _shift(self, dit: Denoiser) -> float:
        return dit.time_shift if self.time_shift is None else self.time_shift

    def describe(self) -> dict[str, Any]:
        """Plain values, for the record beside the images.

        Some only where they are not at their defaults: records made before there was a choice are of the same images.
        """
        late = ("trunk_every", "clamp_velocity", "ig_scale", "ig_interval", "ig_unconditional_scale")
        found = {k: v for k, v in asdict(self).items() if k not in late or v != getattr(SamplerSettings, k)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


@dataclass(frozen=True, kw_only=True)
class SampledLatents:
    """Samples in latent space, and their cost."""

    latents: Float[Tensor, "b c h w"]
    evaluations: int
    """Times that the network was asked for a velocity, a guided one counting once."""


@torch.no_grad()
def sample_latents(
    dit: Denoiser,
    *,
    labels: Int64[Tensor, " b"],
    indices: Int64[Tensor, " b"],
    seed: int,
    settings: SamplerSettings,
    guide: Denoiser | None = None,
) -> SampledLatents:
    """Normalised latents of the images numbered ``indices``; on the device of ``labels``.

    Raises:
        ConfigError: If the network does not know a label, or if settings cannot work.
        NonFiniteError: If the network's velocities are not finite.
    """
    check_labels(labels, dit)
    noise = normal(sample_keys(seed, 0, indices), dit.latent_shape, Stream.SAMPLE_NOISE)
    velocity = counting(guided_velocity(dit, labels, settings, guide))

    def step_noise(step: int) -> Tensor:
        return normal(sample_keys(seed, step + 1, indices), dit.latent_shape, Stream.SAMPLE_STEP_NOISE)

    latents = settings.solve(dit, velocity, noise, step_noise)
    if not latents.isfinite().all():
        raise NonFiniteError(
            "the sampled latents hold NaN or inf: the checkpoint is broken, or 16 bits overflowed (try fp32)"
        )
    return SampledLatents(latents=latents, evaluations=velocity.evaluations)


def guided_velocity(
    dit: Denoiser, condition: Condition | Tensor, settings: SamplerSettings, guide: Denoiser | None
) -> Velocity:
    """The velocity function that the settings mean, for one solution: it may remember."""
    if not settings.clamp_velocity:
        return _guided_velocity(dit, Condition.of(condition), settings, guide)
    networks = [network for network in (dit, guide) if network is not None]
    if not all(network.prediction.divides_by_time for network in networks):
        raise ConfigError(
            "clamp_velocity is for networks that predict data; this one, or its guide, predicts the velocity"
        )
    velocity = _guided_velocity(dit, Condition.of(condition), settings, guide)
    return lambda x, t: clamped_velocity(velocity(x, t), t, CLAMP)


def _guided_velocity(
    dit: Denoiser, condition: Condition, settings: SamplerSettings, guide: Denoiser | None
) -> Velocity:
    scale, interval = settings.cfg_scale, settings.guidance_interval
    if settings.trunk_every > 1 and settings.solver == "dopri5":
        raise ConfigError(
            "trunk_every is for fixed steps: dopri5 takes what it changes for an error of its own"
        )
    if settings.uses_ig:
        return _internally_guided(dit, condition, settings, guide)
    model = reusing_trunk(dit, settings.trunk_every)
    if guide is not None:
        if guide.latent_shape != dit.latent_shape or guide.num_classes != dit.num_classes:
            raise ConfigError(
                f"the guide makes latents {guide.latent_shape} of {guide.num_classes} classes, the model "
                f"{dit.latent_shape} of {dit.num_classes}; a guide must be trained on the same latents and labels"
            )
        reference = reusing_trunk(guide, settings.trunk_every)
        return autoguidance(model, reference, condition, scale=scale, interval=interval)
    if scale != 1.0:
        null = _null(dit, condition, scale)
        return classifier_free(model, condition, null, scale=scale, interval=interval)
    return conditional(model, condition)


def _internally_guided(
    dit: Denoiser, condition: Condition, settings: SamplerSettings, guide: Denoiser | None
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
    return internal_and_classifier_free(
        dit,
        dit.both_heads,
        condition,
        _null(dit, condition, settings.cfg_scale),
        scale=settings.cfg_scale,
        interval=settings.guidance_interval,
        internal_scales=settings.ig_scales,
        internal_interval=settings.ig_interval,
    )


def _null(dit: Denoiser, condition: Condition, scale: float) -> Condition:
    if scale != 1.0 and dit.num_classes == 0:
        raise ConfigError(
            f"cfg_scale={scale} needs a model with labels; this one was trained without. Use 1, or a guide"
        )
    return dit.null_condition(len(condition), condition.device)


def check_labels(labels: Int64[Tensor, " b"], dit: Denoiser) -> None:
    """Refuse labels outside 0 … num_classes, the last of which is the null label."""
    if bool(((labels < 0) | (labels > dit.null_label)).any()):
        raise ConfigError(
            f"labels {sorted(set(labels.tolist()))} are not all known: this model has classes 0 to "
            f"{dit.num_classes - 1}, and {dit.null_label} for no label"
        )


def choose_labels(
    indices: Int64[Tensor, " n"], *, num_classes: int, sampling: Literal["equal", "random"], seed: int
) -> Int64[Tensor, " n"]:
    """The label of each image: ``equal`` goes round the classes, ``random`` draws by (seed, index).

    Balanced labels give an FID about 0.1 lower than random ones (recipe, trap 2), so a score must say which.
    """
    if num_classes == 0:
        return torch.zeros_like(indices)
    if sampling == "equal":
        return indices % num_classes
    if sampling == "random":
        drawn = uniform(sample_keys(seed, 0, indices), (), Stream.SAMPLE_LABEL)
        return (drawn * num_classes).long().clamp_max(num_classes - 1)
    raise ConfigError(f"label_sampling={sampling!r} is unknown; choose equal or random")


@dataclass(frozen=True, kw_only=True)
class SampledImages:
    """Samples as images, and their cost."""

    images: Float[Tensor, "b 3 H W"]
    """RGB in [0, 1], float32."""
    evaluations: int
    """Evaluations of the network, as in :class:`SampledLatents`."""


def sample_batch(
    dit: Denoiser,
    decoder: RAE,
    *,
    indices: Int64[Tensor, " b"],
    labels: Callable[[Int64[Tensor, " n"]], Int64[Tensor, " n"]],
    batch_size: int,
    seed: int,
    settings: SamplerSettings,
    guide: Denoiser | None = None,
    precision: Precision = "fp32",
) -> SampledImages:
    """The images of at most ``batch_size`` consecutive numbers, on the device of the numbers.

    The network always sees ``batch_size`` images: missing ones are those that would follow, and are dropped.

    Args:
        decoder: as :func:`decoder_for` gives it.
        labels: of any numbers, also of those that follow.
        precision: of network and decoder; the state of the solver stays float32.

    Raises:
        ConfigError: If this network cannot follow the labels or settings.
        NonFiniteError: If the network or the decoder gives NaN or infinity.
    """
    missing = batch_size - len(indices)
    filled = torch.cat([indices, indices[-1] + 1 + torch.arange(missing, device=indices.device)])
    narrow = NarrowWeights(dit, guide, decoder.decoder)
    with inference_context(indices.device, precision), narrow.in_use():
        made = sample_latents(
            dit, labels=labels(filled), indices=filled, seed=seed, settings=settings, guide=guide
        )
        # in chunks of its own: pixels need more memory than latents
        images = in_chunks(decoder.decode, made.latents[: len(indices)], NETWORK_CHUNK)
        if not images.isfinite().all():
            raise NonFiniteError(
                "a decoded image holds NaN or inf: the decoder is broken, or 16 bits overflowed (try fp32)"
            )
        return SampledImages(images=images.clamp(0.0, 1.0), evaluations=made.evaluations)


def sample(
    dit: Denoiser,
    rae: RAE,
    *,
    labels: Sequence[int] | Int64[Tensor, " n"],
    num_steps: int = 50,
    cfg_scale: float = 1.0,
    seed: int = 0,
    guide: Denoiser | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
    precision: Precision = "fp32",
    **settings: Any,
) -> Float[Tensor, "n 3 H W"]:
    """New images in [0, 1], one for each label; the library's counterpart of ``sample_dit.py``.

    Args:
        dit, rae: as ``unirae.load_dit`` and ``unirae.load_rae`` give them, on one device.
        labels: class numbers; ``dit.null_label`` for none.
        seed: image number i is a function of (seed, i, its label).
        guide: a weaker network for autoguidance (Karras et al. 2024) in place of classifier-free guidance.
        progress: called with (images done, images in all).
        precision: fp32, bf16 or fp16, of network and decoder.
        settings: further attributes of :class:`SamplerSettings`.

    Raises:
        ConfigError: If labels or settings cannot work, also with this network.
        WeightsError: If the RAE's latents are others than the network's.
        NonFiniteError: If the network or the decoder gives NaN or infinity.
    """
    wanted = _whole_numbers(labels).to(next(dit.parameters()).device)
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1")
    check_labels(wanted, dit)
    count, images = len(wanted), []
    make = partial(
        sample_batch,
        dit,
        decoder_for(dit, rae),
        labels=lambda numbers: wanted[numbers % count],
        batch_size=min(batch_size, count),
        seed=seed,
        settings=SamplerSettings(num_steps=num_steps, cfg_scale=cfg_scale, **settings),
        guide=guide,
        precision=precision,
    )
    for part in torch.arange(count, device=wanted.device).split(batch_size):
        images.append(make(indices=part).images)
        if progress is not None:
            progress(min(len(images) * batch_size, count), count)
    return torch.cat(images)


def _whole_numbers(labels: Sequence[int] | Tensor) -> Int64[Tensor, " n"]:
    try:
        given = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        given = torch.tensor(())
    whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
    if given.ndim != 1 or not len(given) or not whole:
        raise ConfigError(
            f"labels={labels} must be a list of whole numbers, one for each image, such as [0, 0, 1]"
        )
    return given.long()
