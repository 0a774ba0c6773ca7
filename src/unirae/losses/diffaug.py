"""Differentiable augmentation of the discriminator's images (Zhao et al., DiffAugment, arXiv 2006.10738).

The policy is StyleGAN-T's, as in RAE's stage 1: translation by up to 1/8 with zero padding, then brightness,
saturation and contrast, then (off in the recipe) cutout. Two departures: every draw is keyed by sample
(:mod:`unirae.core.keyed_random`), so that it does not depend on how a batch is split; and with
``probability < 1`` each *sample* draws whether an operation applies, the reference once per batch. With
the recipe's ``probability = 1`` the two are the same distribution.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from unirae.core.keyed_random import Stream, uniform
from unirae.core.precision import full_precision

_OPERATIONS = 3  # translation, colour, cutout: the first draws decide whether each applies
_DRAWS = _OPERATIONS + 7  # shift ↓ →, brightness, saturation, contrast, hole ↓ →


def diff_augment(
    images: Float[Tensor, "b 3 H W"],
    keys: Int64[Tensor, " b"],
    stream: Stream,
    *,
    translation: float = 0.125,
    color: bool = True,
    cutout: float = 0.0,
    probability: float = 1.0,
) -> Float[Tensor, "b 3 H W"]:
    """Augment images in [-1, 1], differentiably, in full precision; the result is not clamped.

    Args:
        images: signed images; height and width may differ.
        keys: one key per sample, of :func:`unirae.core.keyed_random.sample_keys`.
        stream: what the draws are for.
        translation: largest shift, as a share of height and width; 0 is off.
        color: jitter brightness, saturation and contrast.
        cutout: side of the square that is blanked, as a share of height and width; 0 is off.
        probability: of each operation, per sample.
    """
    draws = uniform(keys, (_DRAWS,), stream)
    apply = draws[:, :_OPERATIONS] < probability
    draws = draws[:, _OPERATIONS:]
    images = full_precision(images)
    if translation > 0:
        images = _translate(images, draws[:, 0:2], apply[:, 0], translation)
    if color:
        images = _jitter_color(images, draws[:, 2:5], apply[:, 1])
    if cutout > 0:
        images = _cut_out(images, draws[:, 5:7], apply[:, 2], cutout)
    return images


def _translate(
    images: Float[Tensor, "b 3 H W"], draws: Float[Tensor, "b 2"], apply: Bool[Tensor, " b"], ratio: float
) -> Float[Tensor, "b 3 H W"]:
    """Shift by whole pixels, uniform in [-δ, δ] with δ = round(ratio · size); zeros come in from outside."""
    height, width = images.shape[-2:]
    rows = _shifted_positions(height, draws[:, 0], apply, ratio)
    columns = _shifted_positions(width, draws[:, 1], apply, ratio)
    inside = (_inside(rows, height)[:, :, None] & _inside(columns, width)[:, None, :])[:, None]
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    index = source.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).view_as(images) * inside


def _shifted_positions(
    size: int, draw: Float[Tensor, " b"], apply: Bool[Tensor, " b"], ratio: float
) -> Int64[Tensor, "b size"]:
    delta = round(size * ratio)
    shift = ((draw * (2 * delta + 1)).floor().long() - delta) * apply
    return torch.arange(size, device=draw.device) + shift[:, None]


def _inside(positions: Int64[Tensor, "b n"], size: int) -> Bool[Tensor, "b n"]:
    return (positions >= 0) & (positions < size)


def _jitter_color(
    images: Float[Tensor, "b 3 H W"], draws: Float[Tensor, "b 3"], apply: Bool[Tensor, " b"]
) -> Float[Tensor, "b 3 H W"]:
    """Brightness + U(-½, ½), saturation × U(0, 2) about grey, contrast × U(½, 1½) about the mean."""
    brightness, saturation, contrast = draws.view(-1, 3, 1, 1, 1).unbind(1)
    apply = apply.view(-1, 1, 1, 1)
    images = images + (brightness - 0.5) * apply
    grey = images.mean(dim=1, keepdim=True)
    images = torch.lerp(grey, images, _factor(2.0 * saturation, apply, images))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, _factor(contrast + 0.5, apply, images))


def _factor(factor: Tensor, apply: Tensor, like: Tensor) -> Tensor:
    return torch.where(apply, factor, 1.0).to(like.dtype)


def _cut_out(
    images: Float[Tensor, "b 3 H W"], draws: Float[Tensor, "b 2"], apply: Bool[Tensor, " b"], ratio: float
) -> Float[Tensor, "b 3 H W"]:
    """Blank a rectangle whose centre is uniform over the image, so that it may hang over the border."""
    height, width = images.shape[-2:]
    rows = _hole(height, draws[:, 0], ratio)
    columns = _hole(width, draws[:, 1], ratio)
    hole = rows[:, :, None] & columns[:, None, :] & apply[:, None, None]
    return images * ~hole[:, None]


def _hole(size: int, draw: Float[Tensor, " b"], ratio: float) -> Bool[Tensor, "b size"]:
    length = round(size * ratio)
    centre = (draw * (size + 1 - length % 2)).floor().long()  # an even hole may be centred on either border
    start = (centre - length // 2)[:, None]
    position = torch.arange(size, device=draw.device)
    return (position >= start) & (position < start + length)
