"""DINOv3 (Siméoni et al. 2025) and what has its architecture, such as EUPE: the encoders of RAEv2."""

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.errors import WeightsError
from unirae.core.io import load_tensors
from unirae.core.log import get_logger
from unirae.core.strict import load_strictly
from unirae.models.encoders.base import Backbone
from unirae.models.encoders.dinov3_hub import architecture_of, from_hub_names
from unirae.models.encoders.hf import HFEncoder
from unirae.models.encoders.identity import EncoderIdentity

log = get_logger(__name__)

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
        config = backbone.config
        backbone.rope_embeddings = Rotation(
            width=config.hidden_size // config.num_attention_heads,
            base=config.rope_theta,
            patch_size=self.patch_size,
            rounded=identity.rope_periods == "bf16",
        )

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
        if Path(source).suffix == ".safetensors":
            raise WeightsError(f"{source} is a file; give the folder that holds it and its config.json")
        state = load_tensors(source)
        log.info("%s does not say which pixels it is for: ImageNet's mean and std", source)
        network = cls.skeleton(architecture_of(state, source))
        load_strictly(network, from_hub_names(state), what=f"encoder ({source})")
        periods = state["rope_embed.periods"]
        rounded = torch.equal(periods, periods.bfloat16().to(periods.dtype))
        log.info("%s holds its rotary periods as rope_periods=%s", source, "bf16" if rounded else "exact")
        return Backbone(network, cls.default_mean, cls.default_std)

    @property
    def usual_size(self) -> tuple[int, int]:
        """The usual (height, width) of autoencoders."""
        return _USUAL_SIZE, _USUAL_SIZE


class Rotation(nn.Module):
    """Angles of DINOv3's rotary positions, in place of transformers' module: always in float32.

    The coordinates (i + ½)/H·2 − 1 of a patch's row, and likewise of its column, give the angles 2π·coordinate/period
    with period_j = θ^(2j/(d/2)), j < d/4, for heads of width d; rows first, then columns, and all of it twice.

    Args:
        width: d, the width of a head.
        base: θ.
        patch_size: side of a patch in pixels.
        rounded: round the periods to bf16, as the published files hold them: tokens change by 3e-4.
    """

    def __init__(self, *, width: int, base: float, patch_size: int, rounded: bool) -> None:
        super().__init__()
        self.patch_size = patch_size
        exponents = torch.arange(0, 1, 4 / width, dtype=torch.float32, device="cpu")
        periods = base**exponents
        self.frequencies = (1 / (periods.bfloat16().float() if rounded else periods)).tolist()

    def forward(self, pixels: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Cosines and sines of the angles of every patch, row by row."""
        rows, columns = (
            (torch.arange(0.5, side // self.patch_size, device=pixels.device) / (side // self.patch_size)) * 2
            - 1
            for side in pixels.shape[-2:]
        )
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
        frequencies = torch.tensor(
            self.frequencies, device=pixels.device
        )  # no buffer, which half() would round
        angles = (2 * math.pi * places[:, :, None] * frequencies).flatten(1, 2).tile(2)
        return angles.cos(), angles.sin()
