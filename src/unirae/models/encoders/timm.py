"""Any plain ViT of timm (VisionTransformer, Eva and their kin), at any image size that divides."""

from pathlib import Path
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unirae.core.conventions import IMAGENET_MEAN, IMAGENET_STD
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import load_safetensors, load_tensors
from unirae.models.encoders.base import Encoder, plain_norm
from unirae.models.encoders.identity import EncoderIdentity, Rgb
from unirae.models.strict import load_strictly

_HEADS = ("head.", "fc_norm.", "attn_pool.", "head_drist.", "head_dist.")


class TimmEncoder(Encoder):
    """``architecture`` holds ``model_name`` and further arguments of ``timm.create_model``."""

    default_mean: ClassVar[Rgb] = IMAGENET_MEAN
    default_std: ClassVar[Rgb] = IMAGENET_STD

    def __init__(self, *, backbone: Any, identity: EncoderIdentity) -> None:
        backbone.norm = plain_norm(backbone.norm, backbone.embed_dim)
        sides = set(backbone.patch_embed.patch_size)
        if len(sides) != 1:
            raise ConfigError(f"patches must be square; this encoder's are {tuple(sides)}")
        super().__init__(
            backbone=backbone, width=backbone.embed_dim, patch_size=sides.pop(), identity=identity
        )

    @property
    def has_class_token(self) -> bool:
        """Some models have register tokens alone."""
        backbone: Any = self.backbone
        return getattr(backbone, "cls_token", None) is not None

    @classmethod
    def skeleton(cls, architecture: dict[str, Any], *, pretrained: bool = False) -> Any:
        """The backbone without its heads; draws from torch's global generator."""
        import timm

        options = dict(architecture)
        if "model_name" not in options:
            raise ConfigError("model.encoder.architecture needs model_name, such as vit_base_patch16_224")
        try:
            backbone: Any = timm.create_model(
                **options, pretrained=pretrained, num_classes=0, dynamic_img_size=True, cache_dir=None
            )
        except (TypeError, RuntimeError) as error:
            raise ConfigError(f"timm cannot build {options}: {str(error).splitlines()[0]}") from None
        backbone.reset_classifier(0, global_pool="")
        backbone.unirae_architecture = options
        return backbone

    @classmethod
    def pretrained(cls, name: str, source: str, architecture: dict[str, Any]) -> tuple[Any, Rgb, Rgb]:
        """Backbone, pixel mean and pixel std from the hub (``source == name``) or a checkpoint file."""
        options = {"model_name": name, **architecture}
        if source == name:
            try:
                backbone = cls.skeleton(options, pretrained=True)
            except (OSError, ConfigError) as error:
                raise WeightsError(
                    f"cannot load {name} from timm's hub: {str(error).splitlines()[0]}"
                ) from None
        else:
            backbone = cls.skeleton(options)
            state = {key: t for key, t in _read(source).items() if not key.startswith(_HEADS)}
            load_strictly(backbone, state, what=f"encoder ({source})")
        defaults = backbone.pretrained_cfg
        return (
            backbone,
            tuple(defaults.get("mean", cls.default_mean)),
            tuple(defaults.get("std", cls.default_std)),
        )

    @classmethod
    def describe(cls, backbone: Any) -> dict[str, Any]:
        """What :meth:`skeleton` was called with."""
        return backbone.unirae_architecture

    def _last_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n c"]:
        backbone: Any = self.backbone
        tokens = backbone.forward_features(pixels)
        return F.layer_norm(tokens, (self.width,), eps=backbone.norm.eps)  # for models without a final norm

    def _block_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b n c"]]:
        backbone: Any = self.backbone
        return backbone.forward_intermediates(pixels, output_fmt="NLC", intermediates_only=True)


def _read(source: str) -> dict[str, Tensor]:
    """A checkpoint file of timm: safetensors, or a torch file of tensors."""
    return load_safetensors(source) if Path(source).suffix == ".safetensors" else load_tensors(source)
