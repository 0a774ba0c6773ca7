"""The features of FD-DINOv2 (Stein et al. 2023, section 4.2): class tokens of DINOv2 ViT-L/14.

As in the authors' code: images resized to 224 px (bicubic, antialiased, back on the 8-bit grid), ImageNet's mean and
std, the class token after the final norm with its affine part, 1024 numbers.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.conventions import IMAGENET_MEAN, IMAGENET_STD
from unirae.core.errors import WeightsError
from unirae.core.hub import hub_problem
from unirae.core.io import state_sha256
from unirae.core.weights import carried_folder
from unirae.metrics.extractors import POOLED, FeatureExtractor
from unirae.models.hf_loading import quiet_transformers

MODEL = "facebook/dinov2-large"
_INPUT_SIZE = 224


class Dinov2Extractor(FeatureExtractor):
    """DINOv2 as an extractor: 8-bit RGB of any size to class tokens.

    Args:
        weights: a hub name or a folder in transformers' format; another DINOv2 than the published ViT-L/14 gives other
            scores, which its hash tells.
    """

    name = "dinov2_cls"

    def __init__(self, *, weights: str = MODEL, device: torch.device | str = "cpu") -> None:
        from transformers import AutoModel

        place = weights if Path(weights).exists() else carried_folder(weights) or weights
        try:
            with quiet_transformers():
                network: Any = AutoModel.from_pretrained(place, dtype=torch.float32)
        except (OSError, ValueError) as error:
            reason = hub_problem(error, weights)
            raise WeightsError(
                f"FD-DINOv2: cannot load {weights} ({reason}). Fetch it where there is a network (`hf download {MODEL} "
                f"--local-dir DIR`) and set {argument('encoder_weights', 'DIR')}"
            ) from None
        if network.config.model_type != "dinov2":
            raise WeightsError(
                f"FD-DINOv2: {weights} is a {network.config.model_type}, not DINOv2; for other encoders give "
                f"{argument('extractor')}"
            )
        self._network = network.eval().requires_grad_(False).to(device)
        self._mean, self._std = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        self.widths = {POOLED: network.config.hidden_size}
        self.identity = {
            "network": "DINOv2, class token after the final norm",
            "weights": weights,
            "sha256": state_sha256(network.state_dict()),
            "pooling": "class token",
            "input_size": [_INPUT_SIZE, _INPUT_SIZE],
        }

    def forward(self, images: UInt8[Tensor, "b 3 H W"]) -> dict[str, Float[Tensor, "b d"]]:
        """One class token per image."""
        resized = nn.functional.interpolate(
            images.float(), (_INPUT_SIZE, _INPUT_SIZE), mode="bicubic", antialias=True
        )
        pixels = resized.round().clamp(0.0, 255.0) / 255.0
        tokens = self._network((pixels - self._mean) / self._std).last_hidden_state
        return {POOLED: tokens[:, 0]}
