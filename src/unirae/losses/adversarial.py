"""The two sides of the GAN game, as functions of the discriminator's logits.

Hinge: Lim and Ye, "Geometric GAN" (arXiv 1705.02894). Vanilla: Goodfellow et al. (arXiv 1406.2661), in its
softplus form. Both carry the ½ of VQGAN's code, which RAE's stage 1 follows. All are means over every logit,
in full precision.
"""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unirae.core.errors import ConfigError
from unirae.core.precision import full_precision

DiscriminatorLoss = Callable[[Float[Tensor, "b n"], Float[Tensor, "b n"]], Float[Tensor, ""]]
"""Function of the logits of real and of fake images that gives the discriminator's loss."""


def hinge_loss(real: Float[Tensor, "b n"], fake: Float[Tensor, "b n"]) -> Float[Tensor, ""]:
    """½ (mean relu(1 − real) + mean relu(1 + fake)): nothing to gain beyond a margin of 1."""
    return 0.5 * (F.relu(1.0 - full_precision(real)).mean() + F.relu(1.0 + full_precision(fake)).mean())


def vanilla_loss(real: Float[Tensor, "b n"], fake: Float[Tensor, "b n"]) -> Float[Tensor, ""]:
    """½ (mean −log sigmoid(real) + mean −log sigmoid(−fake)): binary cross-entropy."""
    return 0.5 * (F.softplus(-full_precision(real)).mean() + F.softplus(full_precision(fake)).mean())


def generator_loss(fake: Float[Tensor, "b n"]) -> Float[Tensor, ""]:
    """−mean(fake): the generator's side of the hinge game, which the recipe uses with either loss above."""
    return -full_precision(fake).mean()


_DISCRIMINATOR_LOSSES: dict[str, DiscriminatorLoss] = {"hinge": hinge_loss, "vanilla": vanilla_loss}


def discriminator_loss(name: str) -> DiscriminatorLoss:
    """The discriminator's loss called ``name``.

    Raises:
        ConfigError: If there is no loss of that name.
    """
    if name not in _DISCRIMINATOR_LOSSES:
        known = ", ".join(_DISCRIMINATOR_LOSSES)
        raise ConfigError(f"unknown discriminator loss {name!r}; known: {known}")
    return _DISCRIMINATOR_LOSSES[name]
