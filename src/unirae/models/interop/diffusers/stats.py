"""Statistics of latents in diffusers' convention, (z − mean) / (std + 1e-5) · scaling_factor, to ours and back.

Ours is (z − mean) / √(var + ε). Theirs is ours with var = ((std + 1e-5) / scaling_factor)² and ε = 0. Computed in
float64, kept in float32.
"""

import torch
from torch import Tensor

from unirae.core.errors import WeightsError
from unirae.core.log import get_logger
from unirae.models.interop.diffusers.config import STD_EPS
from unirae.models.latent_stats import LatentStats

log = get_logger(__name__)

_NO_STD = torch.tensor([1 - STD_EPS])
"""Standard deviation that with diffusers' ε divides by 1."""


def stats_from_diffusers(
    mean: Tensor, std: Tensor, *, scaling_factor: float, latent_shape: tuple[int, int, int]
) -> LatentStats:
    """Statistics from the buffers ``_latents_mean`` and ``_latents_std``.

    A single 0 is no mean. A single 1, diffusers' default, is not quite "no standard deviation": it divides by
    1 + 1e-5, and so do the statistics returned here.

    Raises:
        WeightsError: If a buffer is of another shape than the latents, not finite, or not positive.
    """
    scale = std.double() + STD_EPS
    if bool((scale <= 0).any()):
        raise WeightsError(f"_latents_std: {float(std.min()):g} is no standard deviation")
    scale = scale / scaling_factor
    if scaling_factor != 1:
        log.info("scaling_factor=%s is now part of the latents' variance", scaling_factor)
    no_mean = mean.numel() == 1 and float(mean) == 0
    no_std = std.numel() == 1 and scaling_factor == 1 and float(std) == float(_NO_STD)
    if no_mean and std.numel() == 1:
        log.info("no statistics of the latents: they are divided by %s", 1 if no_std else float(scale))
    return LatentStats(
        mean=None if no_mean else _shaped(mean, latent_shape, "_latents_mean"),
        var=None if no_std else _shaped(scale.square(), latent_shape, "_latents_std"),
        eps=None if no_std else 0.0,
        info={"source": "diffusers AutoencoderRAE"},
    )


def stats_to_diffusers(stats: LatentStats) -> tuple[Tensor, Tensor]:
    """Statistics as ``_latents_mean`` and ``_latents_std``, with scaling_factor = 1."""
    mean = torch.zeros(1) if stats.mean is None else stats.mean.cpu()
    if stats.var is None:
        return mean, _NO_STD.clone()
    return mean, ((stats.var.cpu().double() + stats.eps).sqrt() - STD_EPS).float()


def check_same_latents(one: LatentStats, other: LatentStats, *, what: str) -> None:
    """Refuse a transformer and an autoencoder that normalise latents differently; rounding aside.

    Raises:
        WeightsError: If the statistics differ; the message names ``what`` they are parts of.
    """
    pairs = zip(_mean_and_scale(one), _mean_and_scale(other), strict=True)
    if not all(torch.allclose(*torch.broadcast_tensors(a, b), rtol=1e-4, atol=1e-5) for a, b in pairs):
        raise WeightsError(f"{what}: the transformer's statistics of latents are not the autoencoder's (vae)")


def _mean_and_scale(stats: LatentStats) -> tuple[Tensor, Tensor]:
    mean = torch.zeros(1) if stats.mean is None else stats.mean
    return mean, torch.ones(1) if stats.var is None else (stats.var + stats.eps).sqrt()


def _shaped(values: Tensor, latent_shape: tuple[int, int, int], name: str) -> Tensor:
    """Shape values as (c, h, w), or (c, 1, 1) where all places have the same."""
    channels = latent_shape[0]
    if values.numel() == 1:
        return values.reshape(1, 1, 1).expand(channels, 1, 1).clone()
    shape = tuple(values.shape[1:] if values.ndim == 4 and len(values) == 1 else values.shape)
    if shape not in (latent_shape, (channels, 1, 1)):
        raise WeightsError(
            f"{name} has the shape {tuple(values.shape)}; latents of this autoencoder are {latent_shape}, so it must "
            f"be that, {(channels, 1, 1)}, or one number"
        )
    return values.reshape(shape)
