"""Sampler from labels and a seed to images: noise, the probability-flow ODE or its SDE, guidance, the decoder.

Image number i of a seed is a function of (seed, i) and its label alone: its noise is addressed by them, not drawn from
a stream. So neither the batch size nor the number of processes changes what is sampled, beyond the last digits in
which matrix products of different shapes differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from unirae.evaluation.sampling.settings import SamplerSettings, guided_velocity
from unirae.flow.solvers import counting
from unirae.models.checkpoints.pairing import decoder_for
from unirae.models.denoisers.base import Denoiser
from unirae.models.rae import RAE
from unirae.nn.kernels.narrow_weights import NarrowWeights


@dataclass(frozen=True, kw_only=True)
class SampledLatents:
    """Samples in latent space, and their cost."""

    latents: Float[Tensor, "b c h w"]
    evaluations: int
    """Times that the network was asked for a velocity, a guided one counting once."""


def sample_numbered(
    dit: Denoiser,
    *,
    labels: Int64[Tensor, " b"],
    indices: Int64[Tensor, " b"],
    seed: int,
    settings: SamplerSettings,
    guide: Denoiser | None = None,
) -> SampledLatents:
    """Normalised latents of the images numbered ``indices``, whose noise is drawn; on the device of ``labels``.

    Raises:
        ConfigError: If the network does not know a label, or if settings cannot work.
        NonFiniteError: If the network's velocities are not finite.
    """
    noise = normal(sample_keys(seed, 0, indices), dit.latent_shape, Stream.SAMPLE_NOISE)
    return _sample_from(dit, noise, labels=labels, indices=indices, seed=seed, settings=settings, guide=guide)


@torch.no_grad()
def _sample_from(
    dit: Denoiser,
    noise: Float[Tensor, "b c h w"],
    *,
    labels: Int64[Tensor, " b"],
    indices: Int64[Tensor, " b"],
    seed: int,
    settings: SamplerSettings,
    guide: Denoiser | None,
    start_time: float = 1.0,
) -> SampledLatents:
    check_labels(labels, dit)
    velocity = counting(guided_velocity(dit, labels, settings, guide))

    def step_noise(step: int) -> Tensor:
        return normal(sample_keys(seed, step + 1, indices), dit.latent_shape, Stream.SAMPLE_STEP_NOISE)

    latents = settings.solve(dit, velocity, noise, step_noise, start_time=start_time)
    if not latents.isfinite().all():
        raise NonFiniteError(
            "the sampled latents hold NaN or inf: the checkpoint is broken, or 16 bits overflowed (try fp32)"
        )
    return SampledLatents(latents=latents, evaluations=velocity.evaluations)


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
    narrow: NarrowWeights,
    guide: Denoiser | None = None,
    precision: Precision = "fp32",
) -> SampledImages:
    """The images of at most ``batch_size`` consecutive numbers, on the device of the numbers.

    The network always sees ``batch_size`` images: missing ones are those that would follow, and are dropped.

    Args:
        decoder: as :func:`decoder_for` gives it.
        labels: of any numbers, also of those that follow.
        narrow: of all networks, kept from batch to batch.
        precision: of network and decoder; the state of the solver stays float32.

    Raises:
        ConfigError: If this network cannot follow the labels or settings.
        NonFiniteError: If the network or the decoder gives NaN or infinity.
    """
    missing = batch_size - len(indices)
    filled = torch.cat([indices, indices[-1] + 1 + torch.arange(missing, device=indices.device)])
    with inference_context(indices.device, precision), narrow.in_use():
        made = sample_numbered(
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
        narrow=NarrowWeights(dit, guide, rae.decoder),
        guide=guide,
        precision=precision,
    )
    for part in torch.arange(count, device=wanted.device).split(batch_size):
        images.append(make(indices=part).images)
        if progress is not None:
            progress(min(len(images) * batch_size, count), count)
    return torch.cat(images)


def sample_latents(
    dit: Denoiser,
    *,
    noise: Float[Tensor, "n c h w"],
    labels: Sequence[int] | Int64[Tensor, " n"],
    num_steps: int = 50,
    cfg_scale: float = 1.0,
    seed: int = 0,
    guide: Denoiser | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
    precision: Precision = "fp32",
    start_time: float = 1.0,
    **settings: Any,
) -> Float[Tensor, "n c h w"]:
    """Normalised latents from noise that the caller has; :func:`sample`'s sampler, with its arguments.

    Args:
        noise: N(0, 1), one for each label, such as an interpolation between two; or latents x_t at ``start_time``.
        seed: of the noise that the solver ``sde`` adds.
        start_time: below 1, latents noised up to there are changed (SDEdit, Meng et al., arXiv 2108.01073): the part of
            the grid of ``num_steps`` that lies below is walked.

    Raises:
        ConfigError: If noise, labels or settings cannot work, also with this network.
        NonFiniteError: If the network gives NaN or infinity.
    """
    device = next(dit.parameters()).device
    wanted = _whole_numbers(labels).to(device)
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1")
    if noise.shape != (len(wanted), *dit.latent_shape):
        raise ConfigError(
            f"noise of shape {tuple(noise.shape)}: {len(wanted)} labels and this model need "
            f"{(len(wanted), *dit.latent_shape)}"
        )
    how = SamplerSettings(num_steps=num_steps, cfg_scale=cfg_scale, **settings)
    narrow, latents = NarrowWeights(dit, guide), []
    for part in torch.arange(len(wanted), device=device).split(batch_size):
        with inference_context(device, precision), narrow.in_use():
            made = _sample_from(
                dit,
                noise[part.to(noise.device)].to(device),
                labels=wanted[part],
                indices=part,
                seed=seed,
                settings=how,
                guide=guide,
                start_time=start_time,
            )
        latents.append(made.latents)
        if progress is not None:
            progress(int(part[-1]) + 1, len(wanted))
    return torch.cat(latents)


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
