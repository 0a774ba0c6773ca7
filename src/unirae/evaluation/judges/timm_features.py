"""Features of timm's models as they were published, pooled as papers of 2026 do (RAEv2, section 9).

Images go in as 8 bits: to the network's size by antialiased bicubic interpolation in floats, without rounding, then
(x − 255·mean) / (255·std) with the model's own statistics; ``forward_features``, of a ViT with its final norm; then one
vector.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.core.io import module_sha256
from unirae.metrics.extractors import POOLED, FeatureExtractor
from unirae.metrics.frechet_ratio import Pooling
from unirae.models.encoders.base import Backbone

_IN_WORDS = {"class": "class token", "attention": "attention pool", "spatial": "mean over places"}


class TimmExtractor(FeatureExtractor):
    """A published model of timm: 8-bit RGB of any size to one vector per image.

    Args:
        backbone: see :func:`unirae.models.encoders.timm_whole.whole_network`.
        name: for the names of scores.
        model: timm's name, or a path.
        weights: where they came from: ``hub``, ``random``, or a path.
        input_size: (height, width) in pixels that images are resized to.
        bfloat16: a ViT's blocks run under bfloat16 autocast, on CUDA only; a CPU computes in float32 and says so.

    Raises:
        ConfigError: If the model has nothing to pool by.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        name: str,
        model: str,
        weights: str,
        pooling: Pooling,
        input_size: tuple[int, int],
        bfloat16: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        network: Any = backbone.network
        _check_pooling(network, pooling, model)
        self.name, self.widths = name, {POOLED: network.num_features}
        self._bfloat16 = bfloat16 and torch.device(device).type == "cuda"
        self.identity = {
            "network": f"{model} (timm)",
            "weights": weights,
            "sha256": module_sha256(network),
            "pooling": _IN_WORDS[pooling],
            "input_size": list(input_size),
            "precision": "bfloat16 autocast" if self._bfloat16 else "float32",
        }
        if weights == "random":
            self.identity["published_weights"] = False
        self._network, self._pooling, self._input_size = network.to(device), pooling, input_size
        self._mean, self._std = (
            255.0 * torch.tensor(values, device=device).view(3, 1, 1)
            for values in (backbone.mean, backbone.std)
        )

    def forward(self, images: UInt8[Tensor, "b 3 H W"]) -> dict[str, Float[Tensor, "b d"]]:
        """One vector per image."""
        pixels = images.float()
        if pixels.shape[-2:] != self._input_size:
            pixels = nn.functional.interpolate(pixels, self._input_size, mode="bicubic", antialias=True)
        pixels = (pixels - self._mean) / self._std
        with torch.autocast("cuda", torch.bfloat16, enabled=self._bfloat16):
            found = self._network.forward_features(pixels)
        return {POOLED: self._pooled(found).float()}

    def _pooled(self, found: Tensor) -> Float[Tensor, "b d"]:
        if self._pooling == "spatial":
            return found.mean((2, 3))
        return found[:, 0] if self._pooling == "class" else self._network.pool(found)


def _check_pooling(network: Any, pooling: Pooling, model: str) -> None:
    has: dict[Literal["class", "attention"], bool] = {
        "class": getattr(network, "cls_token", None) is not None,
        "attention": getattr(network, "attn_pool", None) is not None,
    }
    if pooling != "spatial" and not has[pooling]:
        others = [kind for kind in has if has[kind]]
        raise ConfigError(
            f"{argument('encoder_pooling', pooling)}: {model} has no {_IN_WORDS[pooling]}; choose "
            f"{' or '.join([*others, 'mean'])}"
        )
