"""An autoencoder whose decoder is random: the smoke test of stage 2 needs no stage 1."""

from typing import Any

import torch

from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.build import build_encoder
from unirae.models.rae import RAE, token_grid


def random_rae(*, encoder: dict[str, Any], decoder: dict[str, Any], image_size: int, seed: int) -> RAE:
    """A frozen RAE that is a function of its arguments, so that a checkpoint need not hold its weights.

    Args:
        encoder: arguments of :func:`~unirae.models.encoders.build.build_encoder`.
        decoder: arguments of :class:`~unirae.models.decoder.ViTDecoder`, without token width and grid.
        image_size: the encoder's input in pixels.
    """
    built = build_encoder(**{**encoder, "seed": seed})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random_decoder = ViTDecoder(
            **decoder, token_dim=built.width, grid=token_grid(image_size, built.patch_size)
        )
    rae = RAE(encoder=built, decoder=random_decoder, encoder_input_size=image_size, noise_tau=0.0)
    return rae.eval().requires_grad_(False)
