"""Norm and modulation as one operation, with its backward pass written out.

Between two products a diffusion transformer does little arithmetic and much reading and writing. Done operation by
operation, norm and modulation go over memory a dozen times, and autograd keeps each intermediate result. Here they are
one function that keeps only what it was given, and hands on what autocast would round to anyway. Sums and norms are in
at least 32 bits (recipe, trap 5). It cannot be differentiated twice.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from unirae.core.precision import full_precision


def modulated_rms_norm(
    x: Float[Tensor, "b n d"],
    weight: Float[Tensor, " d"],
    shift: Float[Tensor, "b m d"],
    scale: Float[Tensor, "b m d"],
    *,
    eps: float,
) -> Float[Tensor, "b n d"]:
    """Modulated RMS norm: x / √(mean(x²) + ε) · weight · (1 + scale) + shift.

    Args:
        shift, scale: one for each image (m = 1) or for each token (m = n).

    Returns:
        In autocast's type where it is on, else in x's, but at least float32.
    """
    kind = x.device.type
    narrow = torch.is_autocast_enabled(kind) and x.dtype != torch.float64
    dtype = torch.get_autocast_dtype(kind) if narrow else torch.promote_types(x.dtype, torch.float32)
    if torch.compiler.is_compiling():
        # compilers fuse the plain form, and that of torch 2.11 loses x's gradient in the other
        normed = F.rms_norm(full_precision(x), (x.shape[-1],), full_precision(weight), eps)
        return torch.addcmul(full_precision(shift), normed, 1.0 + full_precision(scale)).to(dtype)
    return _ModulatedRmsNorm.apply(x, weight, shift, scale, eps, dtype)  # pyright: ignore[reportReturnType]


class _ModulatedRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, shift: Tensor, scale: Tensor, eps: float, dtype: torch.dtype
    ) -> Tensor:
        wide = full_precision(x)
        mean_square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square() / x.shape[-1]
        inverse = (mean_square + eps).rsqrt()
        gain = _gain(weight, scale)
        out = torch.empty_like(wide, dtype=dtype)
        torch.addcmul(full_precision(shift), wide * inverse, gain, out=out)
        ctx.save_for_backward(x, weight, scale, inverse)
        ctx.shift_dtype = shift.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, inverse = ctx.saved_tensors
        gradient = full_precision(gradients[0])
        normed = full_precision(x) * inverse
        gain = _gain(weight, scale)
        shared = scale.shape[1] == 1
        by_gain = gradient * normed
        # d/dx of x̂ = x·inverse: inverse·(g − x̂·mean(g·x̂)), with g = gradient·gain
        along = (by_gain @ gain.mT if shared else (by_gain * gain).sum(-1, keepdim=True)) / x.shape[-1]
        by_x = torch.addcmul(gradient * gain, normed, along, value=-1.0).mul_(inverse)
        by_shift = gradient.sum(1, keepdim=True) if shared else gradient
        by_gain = by_gain.sum(1, keepdim=True) if shared else by_gain
        by_weight = (by_gain * (1.0 + full_precision(scale))).sum((0, 1))
        return (
            by_x.to(x.dtype),
            by_weight.to(weight.dtype),
            by_shift.to(ctx.shift_dtype),
            (by_gain * weight).to(scale.dtype),
            None,
            None,
        )


def _gain(weight: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(weight, full_precision(scale), weight)
