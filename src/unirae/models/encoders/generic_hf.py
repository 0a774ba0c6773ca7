"""Any other plain ViT of transformers: one token per patch, class and register tokens in front."""

import inspect
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.models.encoders.hf import HFEncoder
from unirae.models.encoders.identity import EncoderIdentity


class GenericHFEncoder(HFEncoder):
    """Width, patch size and pixel statistics come from the model's own files.

    The final norm loses its affine part where one of the usual names finds it. A plain LayerNorm follows, for models
    that end without one; after a plain one it changes nothing. With ``norm_affine`` none follows, nor without
    ``final_norm``.
    """

    norm_names: ClassVar[tuple[str, ...]] = ("layernorm", "post_layernorm", "norm", "final_layer_norm")
    ignored_prefixes: ClassVar[tuple[str, ...]] = (
        "text_model.",
        "logit_",
        "temperature",
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
        if identity.norm_affine and not self._ends_in_norm():
            raise ConfigError(
                f"{argument('encoder.norm_affine', True)}: {identity.name} ends without a norm; set it to null"
            )

    @classmethod
    def prepare_config(cls, config: Any) -> Any:
        """The image half of a two-tower configuration."""
        return getattr(config, "vision_config", config)

    def _call(self, pixels: Float[Tensor, "b 3 H W"], **options: Any) -> Any:
        if "interpolate_pos_encoding" in inspect.signature(self.backbone.forward).parameters:
            options["interpolate_pos_encoding"] = True
        return self.backbone(pixels, **options)

    def final_norm(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return self._plain(super().final_norm(tokens))

    def last_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n c"]:
        return self._plain(super().last_tokens(pixels))

    def _plain(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        as_they_are = self._identity.norm_affine or not self._identity.final_norm
        return tokens if as_they_are else F.layer_norm(tokens, (self.width,), eps=1e-6)

    def _ends_in_norm(self) -> bool:
        """Whether the norm's output is the last hidden state, seen on four patches; CLIP's is the pooled token's."""
        given: list[Tensor] = []
        norm, side = getattr(self.backbone, self._norm_name or ""), 2 * self.patch_size
        with norm.register_forward_hook(lambda *call: given.append(call[-1])), torch.no_grad():
            last = self._call(torch.zeros(1, 3, side, side, device=self.mean.device)).last_hidden_state
        return any(tokens is last for tokens in given)
