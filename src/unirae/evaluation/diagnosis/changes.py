"""Latents that no encoder gives: noised, between two images, without one of the encoder's blocks.

A generator's samples miss the latents of real images by some error; what a decoder makes of such latents is what it
makes of samples. All changes are of tokens; σ counts in standard deviations of a channel, the scale of normalised
latents, which is the generator's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unirae.core.keyed_random import Stream, normal, sample_keys
from unirae.models.rae import RAE

Kind = Literal["noise", "interpolation", "left_out"]
NOISE = (0.0, 0.1, 0.2, 0.4, 0.8, 1.2)
"""σ of the noise; 0 is the plain reconstruction."""
INTERPOLATION = (0.25, 0.5)
"""α of (1 − α)·z + α·z′, z′ of another image."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some images, their tokens, and the standard deviations of the channels [c, 1, 1]."""

    images: Float[Tensor, "b 3 H W"]
    tokens: Float[Tensor, "b c h w"]
    positions: Int64[Tensor, " b"]
    deviation: Float[Tensor, "c 1 1"]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """A way of changing latents.

    Attributes:
        amount: σ, α, or the number of the block.
        apply: the changed tokens of a batch.
    """

    kind: Kind
    amount: float
    apply: Callable[[Batch], Float[Tensor, "b c h w"]]

    @property
    def has_original(self) -> bool:
        """True where the decoded image should still be the original."""
        return self.kind != "interpolation"


def all_changes(rae: RAE) -> list[Change]:
    """The changes that can be made to the latents of this autoencoder, the plain reconstruction first."""
    layers = rae.encoder.identity_without_hash.layers or ()
    return [
        *(Change(kind="noise", amount=sigma, apply=_noised(sigma)) for sigma in NOISE),
        *(Change(kind="interpolation", amount=alpha, apply=_between(alpha)) for alpha in INTERPOLATION),
        *(
            Change(kind="left_out", amount=layer, apply=_without(rae, place, len(layers)))
            for place, layer in enumerate(layers)
            if len(layers) > 1
        ),
    ]


def _noised(sigma: float) -> Callable[[Batch], Tensor]:
    """z + σ·ε, the same ε of an image for every σ."""

    def apply(batch: Batch) -> Tensor:
        keys = sample_keys(batch.seed, 0, batch.positions)
        noise = normal(keys, tuple(batch.tokens.shape[1:]), Stream.LATENT_NOISE)
        return batch.tokens + sigma * batch.deviation * noise

    return apply


def _between(alpha: float) -> Callable[[Batch], Tensor]:
    """Between each image and the one before it in the batch, which is another unless the batch has one image."""
    return lambda batch: torch.lerp(batch.tokens, batch.tokens.roll(1, dims=0), alpha)


def _without(rae: RAE, place: int, count: int) -> Callable[[Batch], Tensor]:
    """The combination of the other blocks (FuseReg's masking, arXiv 2609.31620), here for every image the same."""

    def apply(batch: Batch) -> Tensor:
        keep = torch.ones(len(batch.images), count, dtype=torch.bool, device=batch.images.device)
        keep[:, place] = False
        return rae.encoder.with_dropped_blocks(batch.images, keep)[1]

    return apply
