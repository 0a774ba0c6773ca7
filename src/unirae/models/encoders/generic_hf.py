"""Any other plain ViT of transformers: one token per patch, class and register tokens in front."""

import inspect
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.models.encoders.hf import HFEncoder
from unirae.models.encoders.identity import EncoderIdentity


class GenericHFEncoder(HFEncoder):
    """Width, patch size and pixel statistics come from the model's own files.

    The final norm loses its affine part where one of the usual names finds it. A plain LayerNorm follows in
    any case, for models that end without one; after a plain one it changes nothing.
    """

    keeps_affine: ClassVar[bool] = False  # some end without a norm, or with one that follows the pooling
    norm_names: ClassVar[tuple[str, ...]] = ("layernorm", "post_layernorm", "norm", "final_layer_norm")
    ignored_prefixes: ClassVar[tuple[str, ...]] = (
        "text_model.",
        "logit_",
        "head.",
        "classifier.",
        "decoder.",
        "pooler.",
        "visual_projection.",
        "text_projection.",
    )

    def __init__(self, *, backbone: Any, identity: EncoderIdentity) -> None:
        if isinstance(getattr(backbone, "pooler", None), nn.Module):
            backbone.pooler = None  # reads the class token, which we drop; many checkpoints lack its weights
        super().__init__(backbone=backbone, identity=identity)

    @classmethod
    def prepare_config(cls, config: Any) -> Any:
        """The image half of a two-tower configuration."""
        return getattr(config, "vision_config", config)

    def _call(self, pixels: Float[Tensor, "b 3 H W"], **options: Any) -> Any:
        if "interpolate_pos_encoding" in inspect.signature(self.backbone.forward).parameters:
            options["interpolate_pos_encoding"] = True
        return self.backbone(pixels, **options)

    def final_norm(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return F.layer_norm(super().final_norm(tokens), (self.width,), eps=1e-6)

    def last_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n c"]:
        return F.layer_norm(super().last_tokens(pixels), (self.width,), eps=1e-6)
