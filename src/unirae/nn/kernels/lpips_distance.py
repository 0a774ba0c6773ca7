"""The part of LPIPS that compares two feature maps, as one operation with its backward pass written out.

At the first depth of VGG a feature map is as large as the image and 64 channels deep. Done operation by operation,
normalising two of them and comparing goes over memory more than twenty times, and autograd keeps six tensors of that
size. Here a slab of positions is compared while it lies in the cache, and what is kept is the gradient alone.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from unirae.core.precision import full_precision

_SLAB = 2**18
"""Numbers in a slab on a CPU: a few such arrays fit in a core's cache."""
_EPS = 1e-10


def unit_distance(
    features: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], head: Float[Tensor, "1 c 1 1"]
) -> Float[Tensor, " b"]:
    """Mean over positions of Σ_c head·(x/‖x‖ − y/‖y‖)², in full precision (LPIPS, equation 1).

    Gradients reach ``features`` alone; they are those of the plain formula. It cannot be differentiated twice.

    Raises:
        ValueError: If the target or the head asks for a gradient.
    """
    if target.requires_grad or head.requires_grad:
        raise ValueError("gradients reach the first of the two images alone: detach the target and the head")
    return _UnitDistance.apply(features, target, head)  # pyright: ignore[reportReturnType]


class _UnitDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, target: Tensor, head: Tensor) -> Tensor:
        x, y = (maps.permute(0, 2, 3, 1).flatten(1, 2) for maps in (features, target))  # b n c
        positions = x.shape[1]
        wide = torch.promote_types(x.dtype, torch.float32)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(x) if wanted else None
        total = torch.zeros(len(x), dtype=wide, device=x.device)
        size = max(1, _SLAB // (len(x) * x.shape[2])) if x.device.type == "cpu" else positions
        for start in range(0, positions, size):
            own = slice(start, start + size)
            total += _slab(
                full_precision(x[:, own]),
                full_precision(y[:, own]),
                head.view(-1),
                None if gradient is None else gradient[:, own],
                positions,
            )
        if gradient is not None:
            ctx.save_for_backward(gradient)
            ctx.shape = features.shape
        return total / positions

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        batch, channels, height, width = ctx.shape
        by_features = gradient * gradients[0].view(-1, 1, 1).to(gradient.dtype)
        return by_features.view(batch, height, width, channels).permute(0, 3, 1, 2), None, None


def _slab(
    x: Float[Tensor, "b m c"],
    y: Float[Tensor, "b m c"],
    head: Float[Tensor, " c"],
    gradient: Float[Tensor, "b m c"] | None,
    positions: int,
) -> Float[Tensor, " b"]:
    """The sum over a slab's positions; fills its part of the gradient of the mean over all positions."""
    norm = _norm(x)
    inverse = (norm + _EPS).reciprocal_()
    unit = x * inverse
    difference = unit - y * (_norm(y) + _EPS).reciprocal_()
    weighted = difference * head
    if gradient is None:
        return weighted.mul_(difference).sum((1, 2))
    total = (weighted * difference).sum((1, 2))
    # With x̂ = x/(n + ε), n = ‖x‖ and g = 2·head·difference: d/dx = (g − x̂·⟨g, x̂⟩·(n + ε)/n)/(n + ε)
    along = (weighted * unit).sum(-1, keepdim=True).mul_(1.0 + _EPS / norm)
    torch.addcmul(weighted, unit, along, value=-1.0, out=difference)
    gradient.copy_(difference.mul_(inverse.mul_(2.0 / positions)))
    return total


def _norm(x: Float[Tensor, "b m c"]) -> Float[Tensor, "b m 1"]:
    """Norm of x, not below ε: that keeps the gradient finite where all features are 0."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(_EPS)
