"""Sampler from labels or prompts and a seed to images: noise, the flow's ODE or its SDE, guidance, the decoder.

Image number i of a seed is a function of (seed, i) and its label or prompt alone: its noise is addressed by them, not
drawn from a stream. So neither the batch size nor the number of processes changes what is sampled, beyond the last
digits in which matrix products of different shapes differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unirae.core.errors import ConfigError, NonFiniteError
from unirae.core.exact import NETWORK_CHUNK, in_chunks
from unirae.core.keyed_random import Stream, normal
from unirae.evaluation.passes.encoding import inference_context
from unirae.evaluation.passes.reading import Precision, Progress
from unirae.evaluation.sampling.requests import Request, RequestRule
from unirae.evaluation.sampling.settings import SamplerSettings, guided_velocity
from unirae.evaluation.sampling.wanted import Wanted, check_condition, rule_for
from unirae.flow.solvers import counting
from unirae.models.checkpoints.pairing import decoder_for
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.condition import Condition
from unirae.models.rae import RAE
from unirae.models.text.encoder import TextEncoder
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
    request: Request | Int64[Tensor, " b"],
    indices: Int64[Tensor, " b"],
    seed: int,
    settings: SamplerSettings,
    guide: Denoiser | None = None,
) -> SampledLatents:
    """Normalised latents of the images numbered ``indices``, whose noise is drawn; on the device of ``indices``.

    Args:
        request: what they are to show; a plain tensor is labels.

    Raises:
        ConfigError: If the network does not know a label, or if settings cannot work.
        NonFiniteError: If the network's velocities are not finite.
    """
    if isinstance(request, Tensor):
        request = Request(condition=Condition(labels=request))
    noise = normal(request.keys(seed, 0, indices), dit.latent_shape, Stream.SAMPLE_NOISE)
    return _sample_from(
        dit, noise, request=request, indices=indices, seed=seed, settings=settings, guide=guide
    )


@torch.no_grad()
def _sample_from(
    dit: Denoiser,
    noise: Float[Tensor, "b c h w"],
    *,
    request: Request,
    indices: Int64[Tensor, " b"],
    seed: int,
    settings: SamplerSettings,
    guide: Denoiser | None,
    start_time: float = 1.0,
) -> SampledLatents:
    check_condition(request.condition, dit)
    velocity = counting(guided_velocity(dit, request, settings, guide))

    def step_noise(step: int) -> Tensor:
        return normal(request.keys(seed, step + 1, indices), dit.latent_shape, Stream.SAMPLE_STEP_NOISE)

    latents = settings.solve(dit, velocity, noise, step_noise, start_time=start_time)
    if not latents.isfinite().all():
        raise NonFiniteError(
            "the sampled latents hold NaN or inf: the checkpoint is broken, or 16 bits overflowed (try fp32)"
        )
    return SampledLatents(latents=latents, evaluations=velocity.evaluations)


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
    rule: RequestRule,
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
        rule: what the images of any numbers are to show, also of those that follow.
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
            dit, request=rule.request(filled), indices=filled, seed=seed, settings=settings, guide=guide
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
    labels: Sequence[int] | Int64[Tensor, " n"] | None = None,
    prompts: Sequence[str] | None = None,
    negative_prompt: str | None = None,
    text_encoder: TextEncoder | None = None,
    num_steps: int = 50,
    cfg_scale: float = 1.0,
    seed: int = 0,
    guide: Denoiser | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
    precision: Precision = "fp32",
    **settings: Any,
) -> Float[Tensor, "n 3 H W"]:
    """New images in [0, 1], one for each label or prompt; the library's counterpart of ``sample_dit.py``.

    Args:
        dit, rae: as ``unirae.load_dit`` and ``unirae.load_rae`` give them, on one device.
        labels: class numbers; ``dit.null_label`` for none. Either labels or prompts.
        prompts: of a network that is conditioned on text.
        negative_prompt: what classifier-free guidance departs from; None is "".
        text_encoder: as ``unirae.load_text_encoder`` gives it; None opens the one that the checkpoint names.
        seed: image number i is a function of (seed, i, its label or prompt).
        guide: a weaker network for autoguidance (Karras et al. 2024) in place of classifier-free guidance.
        progress: called with (images done, images in all).
        precision: fp32, bf16 or fp16, of network and decoder.
        settings: further attributes of :class:`SamplerSettings`.

    Raises:
        ConfigError: If labels, prompts or settings cannot work, also with this network.
        WeightsError: If the RAE's latents are others than the network's, or the text encoder is missing or another
            one than the network was trained with.
        NonFiniteError: If the network or the decoder gives NaN or infinity.
    """
    wanted = Wanted(labels, prompts, negative_prompt, text_encoder)
    rule, count = rule_for(dit, wanted), wanted.count
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1")
    images = []
    make = partial(
        sample_batch,
        dit,
        decoder_for(dit, rae),
        rule=rule,
        batch_size=min(batch_size, count),
        seed=seed,
        settings=SamplerSettings(num_steps=num_steps, cfg_scale=cfg_scale, **settings),
        narrow=NarrowWeights(dit, guide, rae.decoder),
        guide=guide,
        precision=precision,
    )
    for part in torch.arange(count, device=next(dit.parameters()).device).split(batch_size):
        images.append(make(indices=part).images)
        if progress is not None:
            progress(min(len(images) * batch_size, count), count)
    return torch.cat(images)


def sample_latents(
    dit: Denoiser,
    *,
    noise: Float[Tensor, "n c h w"],
    labels: Sequence[int] | Int64[Tensor, " n"] | None = None,
    prompts: Sequence[str] | None = None,
    negative_prompt: str | None = None,
    text_encoder: TextEncoder | None = None,
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
        noise: N(0, 1), one for each image, such as an interpolation between two; or latents x_t at ``start_time``.
        seed: of the noise that the solver ``sde`` adds.
        start_time: below 1, latents noised up to there are changed (SDEdit, Meng et al., arXiv 2108.01073): the part of
            the grid of ``num_steps`` that lies below is walked.

    Raises:
        ConfigError: If noise, labels, prompts or settings cannot work, also with this network.
        WeightsError: As of :func:`sample`.
        NonFiniteError: If the network gives NaN or infinity.
    """
    device = next(dit.parameters()).device
    wanted = Wanted(labels, prompts, negative_prompt, text_encoder)
    rule, count = rule_for(dit, wanted), wanted.count
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1")
    if noise.shape != (count, *dit.latent_shape):
        raise ConfigError(
            f"noise of shape {tuple(noise.shape)}: {wanted} and this model need {(count, *dit.latent_shape)}"
        )
    how = SamplerSettings(num_steps=num_steps, cfg_scale=cfg_scale, **settings)
    narrow, latents = NarrowWeights(dit, guide), []
    for part in torch.arange(count, device=device).split(batch_size):
        with inference_context(device, precision), narrow.in_use():
            made = _sample_from(
                dit,
                noise[part.to(noise.device)].to(device),
                request=rule.request(part),
                indices=part,
                seed=seed,
                settings=how,
                guide=guide,
                start_time=start_time,
            )
        latents.append(made.latents)
        if progress is not None:
            progress(int(part[-1]) + 1, count)
    return torch.cat(latents)
