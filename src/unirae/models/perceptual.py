"""The perceptual losses that a configuration can choose; each builder receives the RAE's encoder."""

from collections.abc import Sequence
from pathlib import Path

from unirae.losses.perceptual import FeaturePerceptualLoss, LpipsLoss, NoPerceptualLoss
from unirae.models.encoders.base import Encoder
from unirae.nn.lpips import build_lpips


def lpips_loss(encoder: Encoder, *, weights: str | Path = "hub") -> LpipsLoss:
    """Build LPIPS, the recipe's loss; it does not look through the encoder.

    Args:
        encoder: not used.
        weights: VGG16's: ``"hub"``, a local file, or ``"random"`` for smoke tests.
    """
    return LpipsLoss(network=build_lpips(weights))


def encoder_feature_loss(encoder: Encoder, *, layers: Sequence[int] | None = None) -> FeaturePerceptualLoss:
    """Distance between the encoder's own feature maps; needs no further weights.

    Args:
        encoder: stays with its owner; images must be divisible by its patch size.
        layers: which blocks (0-based) to compare; all by default.
    """
    return FeaturePerceptualLoss(feature_maps=encoder.feature_maps, layers=layers)


def no_perceptual_loss(encoder: Encoder) -> NoPerceptualLoss:
    """Leave the perceptual loss out: L1 alone."""
    return NoPerceptualLoss()
