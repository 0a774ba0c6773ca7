"""The straight path between data (t = 0) and noise (t = 1), and what a velocity says about its ends.

Rectified flow (Liu et al., arXiv 2209.03003) with the time direction of SiT (Ma et al., arXiv 2401.08740) and
RAE (arXiv 2510.11690): x_t = (1 − t)·x + t·ε, so the velocity dx_t/dt = ε − x is constant along a path.
Everything is computed in float32 or wider: under bf16 the differences below lose what they are made for.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from unirae.core.precision import full_precision


@dataclass(frozen=True, kw_only=True)
class PathSample:
    """A point of the path and the velocity there, what a denoiser sees and what it should answer."""

    xt: Float[Tensor, "b ..."]
    velocity: Float[Tensor, "b ..."]


def _beside(t: Float[Tensor, " b"] | float, x: Float[Tensor, "b ..."]) -> Tensor | float:
    """``t`` so that it multiplies ``x`` sample by sample."""
    if isinstance(t, Tensor):
        return full_precision(t).reshape(-1, *[1] * (x.ndim - 1))
    return t


def interpolate(
    data: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Float[Tensor, " b"]
) -> PathSample:
    """x_t = (1 − t)·data + t·noise and its velocity noise − data, for t in [0, 1], one per sample."""
    data, noise = full_precision(data), full_precision(noise)
    time = _beside(t, data)
    return PathSample(xt=(1 - time) * data + time * noise, velocity=noise - data)


def velocity_loss(predicted: Float[Tensor, "b ..."], target: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """The flow-matching loss of each sample: the mean over its elements of (predicted − target)²."""
    return _MeanSquare.apply(full_precision(predicted) - full_precision(target))  # pyright: ignore[reportReturnType]


class _MeanSquare(torch.autograd.Function):
    """The mean of x² for each sample; autograd would go five times over x, and not in the order in which it lies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square().flatten(1).mean(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x * _beside(gradients[0] * (2 / math.prod(x.shape[1:])), x)


def data_from_velocity(
    xt: Float[Tensor, "b ..."], velocity: Float[Tensor, "b ..."], t: Float[Tensor, " b"] | float
) -> Float[Tensor, "b ..."]:
    """x_t − t·v, the data end of the path; of a predicted velocity the expected data E[x | x_t]."""
    return full_precision(xt) - _beside(t, xt) * full_precision(velocity)


def noise_from_velocity(
    xt: Float[Tensor, "b ..."], velocity: Float[Tensor, "b ..."], t: Float[Tensor, " b"] | float
) -> Float[Tensor, "b ..."]:
    """x_t + (1 − t)·v, the noise end of the path; of a predicted velocity E[ε | x_t] = −t · score(x_t)."""
    return full_precision(xt) + (1 - _beside(t, xt)) * full_precision(velocity)
