"""DINOv3 (Siméoni et al. 2025) and what has its architecture, such as EUPE: the encoders of RAEv2."""

from pathlib import Path
from typing import Any, ClassVar

import torch

from unirae.core.errors import WeightsError
from unirae.core.io import load_tensors
from unirae.core.strict import load_strictly
from unirae.models.encoders.base import Backbone
from unirae.models.encoders.dinov3_hub import architecture_of, from_hub_names
from unirae.models.encoders.hf import HFEncoder
from unirae.models.encoders.identity import EncoderIdentity

_USUAL_SIZE = 256
"""Usual side in pixels of RAEv2. The configuration names 224."""


class Dinov3Encoder(HFEncoder):
    """DINOv3 with its rotary periods as released, in bf16, or as computed, by the identity's ``rope_periods``.

    Class and register tokens stand in front. There are no position embeddings, so any size that divides will do. In
    training mode the backbone would rescale its patches' coordinates at random; an encoder is always in eval mode.
    """

    default_model_type: ClassVar[str | None] = "dinov3_vit"
    norm_names: ClassVar[tuple[str, ...]] = ("norm",)

    def __init__(self, *, backbone: Any, identity: EncoderIdentity) -> None:
        super().__init__(backbone=backbone, identity=identity)
        set_rope_periods(backbone, rounded=identity.rope_periods == "bf16")

    @classmethod
    def prepare_config(cls, config: Any) -> Any:
        """Refuse anything that is not a DINOv3."""
        if config.model_type != "dinov3_vit":
            raise WeightsError(
                f"kind=dinov3 got a {config.model_type} checkpoint; use kind=generic_hf for it"
            )
        return config

    @classmethod
    def pretrained(cls, source: str, *, name: str, architecture: dict[str, Any]) -> Backbone:
        """The backbone from a folder or hub name of transformers, or from a published ``.pth`` of the hub format."""
        if not Path(source).is_file():
            return super().pretrained(source, name=name, architecture=architecture)
        state = load_tensors(source)
        network = cls.skeleton(architecture_of(state, source))
        load_strictly(network, from_hub_names(state), what=f"encoder ({source})")
        return Backbone(network, cls.default_mean, cls.default_std)

    @property
    def usual_size(self) -> tuple[int, int]:
        """The usual (height, width) of autoencoders."""
        return _USUAL_SIZE, _USUAL_SIZE


@torch.no_grad()
def set_rope_periods(backbone: Any, *, rounded: bool) -> None:
    """Set the rotary frequencies to 1/period, period_j = θ^(2j/(d/2)) for j < d/4, rounded to bf16 or as computed.

    The published files hold periods in bf16, which changes tokens by 3e-4; transformers computes them anew.
    """
    rope = backbone.rope_embeddings
    if rope.inv_freq.is_meta:
        return
    exponents = torch.arange(0, 1, 4 / rope.head_dim, dtype=torch.float32)
    periods = rope.base**exponents
    frequencies = 1 / periods.bfloat16().float() if rounded else 1 / periods
    rope.inv_freq.copy_(frequencies)
