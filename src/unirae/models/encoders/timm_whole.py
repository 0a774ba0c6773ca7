"""Models of timm as they were published, of any family: with final norm and attention pool, without classes.

The encoders of :mod:`unirae.models.encoders.timm` lack both, since latents are patch tokens after a norm without
affine. Scores in published features need them. They are found, read and loaded alike.
"""

from typing import Any

import torch

from unirae.core.errors import ConfigError
from unirae.models.encoders.base import Backbone
from unirae.models.encoders.timm import TimmEncoder

ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}
"""Arguments of a ViT that takes images of any size: positions are resampled, and images padded to whole patches."""


class _Whole(TimmEncoder):
    """The loading of an encoder, with another network to load into."""

    @classmethod
    def skeleton(cls, architecture: dict[str, Any], *, pretrained: bool = False) -> Any:
        import timm

        try:
            network: Any = timm.create_model(
                **architecture, pretrained=pretrained, num_classes=0, cache_dir=None
            )
        except (TypeError, RuntimeError) as error:
            purpose = " as a ViT for images of any size" if ANY_SIZE.items() <= architecture.items() else ""
            raise ConfigError(
                f"timm cannot build {architecture['model_name']}{purpose}: {str(error).splitlines()[0]}"
            ) from None
        network.unirae_architecture = dict(architecture)
        return network


def whole_network(source: str, *, name: str, any_size: bool) -> Backbone:
    """The published network, in eval mode and frozen, and the mean and std of its pixels.

    Args:
        source: ``name`` for timm's hub, a folder of timm's, or a checkpoint file.
        name: timm's name of the model; of a folder its path will do.
        any_size: a ViT that takes images of any size.

    Raises:
        WeightsError: If the weights are missing, damaged, or of another model.
    """
    return _frozen(_Whole.pretrained(source, name=name, architecture=ANY_SIZE if any_size else {}))


def random_network(name: str, *, any_size: bool, seed: int = 0) -> Backbone:
    """The network with seeded random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs for good
        network = _Whole.skeleton({"model_name": name, **(ANY_SIZE if any_size else {})})
    return _frozen(_Whole._with_statistics(network, network.pretrained_cfg))


def _frozen(backbone: Backbone) -> Backbone:
    backbone.network.eval().requires_grad_(False)
    return backbone
