"""The straight path between data (t = 0) and noise (t = 1).

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
    """Point of the path and the velocity there, a denoiser's input and target; and both ends."""

    xt: Float[Tensor, "b ..."]
    velocity: Float[Tensor, "b ..."]
    data: Float[Tensor, "b ..."]
    noise: Float[Tensor, "b ..."]


def beside(t: Float[Tensor, " b"] | float, x: Float[Tensor, "b ..."]) -> Tensor | float:
    """Shape ``t`` so that it multiplies ``x`` sample by sample."""
    if isinstance(t, Tensor):
        return full_precision(t).reshape(-1, *[1] * (x.ndim - 1))
    return t


def interpolate(
    data: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], t: Float[Tensor, " b"]
) -> PathSample:
    """Interpolate: x_t = (1 − t)·data + t·noise and its velocity noise − data, for t in [0, 1], one per sample."""
    data, noise = full_precision(data), full_precision(noise)
    time = beside(t, data)
    return PathSample(xt=(1 - time) * data + time * noise, velocity=noise - data, data=data, noise=noise)


def velocity_loss(predicted: Float[Tensor, "b ..."], target: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """The mean square of two velocities, over the elements of each sample.

    Training calls :func:`~unirae.flow.prediction.prediction_loss`, the flow-matching loss of every prediction target.
    """
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
        return x * beside(gradients[0] * (2 / math.prod(x.shape[1:])), x)
