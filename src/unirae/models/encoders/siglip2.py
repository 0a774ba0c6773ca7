"""SigLIP 2 (Tschannen et al. 2025) at a fixed resolution: the vision tower, without its pooling head."""

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from unirae.core.errors import WeightsError
from unirae.models.encoders.hf import HFEncoder
from unirae.models.encoders.identity import Rgb


class Siglip2Encoder(HFEncoder):
    """Published as SigLIP models of images and text; only the image half is kept. It has no prefix tokens."""

    default_model_type: ClassVar[str | None] = "siglip_vision_model"
    default_mean: ClassVar[Rgb] = (0.5, 0.5, 0.5)
    default_std: ClassVar[Rgb] = (0.5, 0.5, 0.5)
    norm_names: ClassVar[tuple[str, ...]] = ("post_layernorm",)
    ignored_prefixes: ClassVar[tuple[str, ...]] = ("text_model.", "logit_", "head.", "vision_model.head.")

    @property
    def has_class_token(self) -> bool:
        """False: SigLIP pools by attention instead, with the head that is left out here."""
        return False

    @classmethod
    def model_class(cls, config: Any) -> Any:
        """Class of the backbone: the vision tower alone."""
        from transformers import SiglipVisionModel

        return SiglipVisionModel

    @classmethod
    def prepare_config(cls, config: Any) -> Any:
        """The vision half of a two-tower configuration, without the attention-pooling head."""
        vision = getattr(config, "vision_config", config)
        if vision.model_type != "siglip_vision_model":
            raise WeightsError(
                f"kind=siglip2 got a {config.model_type} checkpoint; it reads those of fixed resolution "
                "(google/siglip2-base-patch16-256), not naflex"
            )
        vision.vision_use_head = False
        return vision

    def _call(self, pixels: Float[Tensor, "b 3 H W"], **options: Any) -> Any:
        return self.backbone(pixels, interpolate_pos_encoding=True, **options)
