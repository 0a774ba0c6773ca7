"""Perceptual losses: how far apart two images look to a frozen network.

Each is a module ``loss(recon, target) -> scalar`` on RGB in [0, 1]; the target's features are computed
without a graph. :class:`LpipsLoss` is the recipe's; :class:`FeaturePerceptualLoss` looks through the RAE's
own encoder and needs no further weights.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.errors import ConfigError, InputError
from unirae.core.precision import full_precision

FeatureMaps = Callable[[Float[Tensor, "b 3 H W"]], Sequence[Float[Tensor, "b c h w"]]]
"""Function from images in [0, 1] to feature maps, differentiable with respect to the images."""


class PerceptualDistance(Protocol):
    """A network whose features of the target can be computed apart, as ``nn.lpips.Lpips``."""

    def features(self, images: Float[Tensor, "b 3 H W"]) -> list[Tensor]:
        """Feature maps of images in [0, 1]."""
        ...

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Float[Tensor, " b"]:
        """Distance of each pair of images from their features."""
        ...


class LpipsLoss(nn.Module):
    """Mean over the batch of LPIPS (Zhang et al., arXiv 1801.03924)."""

    def __init__(self, *, network: PerceptualDistance) -> None:
        super().__init__()
        self.network = network

    def forward(self, recon: Float[Tensor, "b 3 H W"], target: Float[Tensor, "b 3 H W"]) -> Float[Tensor, ""]:
        """LPIPS of RGB images in [0, 1]."""
        with torch.no_grad():
            wanted = self.network.features(target)
        return self.network.distance(self.network.features(recon), wanted).mean()


class FeaturePerceptualLoss(nn.Module):
    """Squared distance between unit-length feature vectors at every position, averaged over layers.

    Args:
        feature_maps: for example ``encoder.feature_maps``. Only the callable is kept: the network behind it
            stays with its owner and appears neither in this module's parameters nor in its state.
        layers: which of its maps to compare; all by default. Negative numbers count from the end.
    """

    def __init__(self, *, feature_maps: FeatureMaps, layers: Sequence[int] | None = None) -> None:
        super().__init__()
        self.feature_maps = feature_maps
        self.layers = None if layers is None else tuple(layers)

    def forward(self, recon: Float[Tensor, "b 3 H W"], target: Float[Tensor, "b 3 H W"]) -> Float[Tensor, ""]:
        """Distance of RGB images in [0, 1]; each layer's lies in [0, 4]."""
        with torch.no_grad():
            wanted = self._directions(target)
        found = self._directions(recon)
        distances = [(a - b).square().sum(dim=1).mean() for a, b in zip(found, wanted, strict=True)]
        return torch.stack(distances).mean()

    def _directions(self, images: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b c h w"]]:
        maps = self.feature_maps(images)
        if self.layers is not None:
            if not all(-len(maps) <= i < len(maps) for i in self.layers):
                raise ConfigError(
                    f"perceptual layers {list(self.layers)}: the encoder has {len(maps)} feature maps, "
                    f"numbered 0 to {len(maps) - 1}"
                )
            maps = [maps[i] for i in self.layers]
        return [F.normalize(full_precision(m), dim=1) for m in maps]


class NoPerceptualLoss(nn.Module):
    """Zero: reconstruction by L1 alone."""

    def forward(self, recon: Float[Tensor, "b 3 H W"], target: Float[Tensor, "b 3 H W"]) -> Float[Tensor, ""]:
        """A constant zero, in full precision."""
        return full_precision(recon.new_zeros(()))


class GivenLoss(nn.Module):
    """A function or module of the user's own, checked for use in a training step."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss  # a module moves with this one, and is as frozen
        self.eval().requires_grad_(False)

    def forward(self, recon: Float[Tensor, "b 3 H W"], target: Float[Tensor, "b 3 H W"]) -> Float[Tensor, ""]:
        """The loss of RGB images in [0, 1].

        Raises:
            InputError: If the loss is no scalar, or no gradient flows through it.
        """
        found = self.loss(recon, target)
        if not isinstance(found, Tensor) or found.shape != ():
            what = f"shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"the perceptual loss must give a scalar tensor, got {what}; take its mean()")
        if recon.requires_grad and torch.is_grad_enabled() and not found.requires_grad:
            raise InputError(
                "no gradient flows through the perceptual loss to its first argument, the reconstruction: is it under "
                "torch.no_grad(), detached, or rounded?"
            )
        return found
