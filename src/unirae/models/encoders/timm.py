"""Any plain ViT of timm (VisionTransformer, Eva and their kin), at any image size that divides."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.hub import hub_asked_once, hub_problem
from unirae.core.io import load_safetensors, load_tensors, read_json
from unirae.core.strict import load_strictly
from unirae.models.encoders.base import Backbone, Encoder, plain_norm
from unirae.models.encoders.fusion import Visitor
from unirae.models.encoders.grid import as_size
from unirae.models.encoders.identity import EncoderIdentity

_OF_MOCO = "module.base_encoder."
_HEADS = ("head.", "fc_norm.", "attn_pool.", "head_drist.", "head_dist.")


class TimmEncoder(Encoder):
    """A model of timm; ``architecture`` holds ``model_name`` and further arguments of ``timm.create_model``."""

    keeps_affine: ClassVar[bool] = True

    def __init__(self, *, backbone: Any, identity: EncoderIdentity) -> None:
        _check_plain(backbone, identity.name)
        if not identity.norm_affine:
            plain = plain_norm(backbone.norm, backbone.embed_dim)
            backbone.norm = plain if identity.final_norm else nn.Identity()
        elif isinstance(backbone.norm, nn.Identity):
            raise ConfigError(
                f"{argument('encoder.norm_affine', True)}: {identity.name} ends without a norm; set it to null"
            )
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
            raise ConfigError(
                f"{argument('encoder.architecture')} needs model_name, such as vit_base_patch16_224"
            )
        try:
            backbone: Any = timm.create_model(
                **options, pretrained=pretrained, num_classes=0, dynamic_img_size=True, cache_dir=None
            )
        except (TypeError, RuntimeError) as error:
            raise ConfigError(f"timm cannot build {options}: {str(error).splitlines()[0]}") from None
        backbone.reset_classifier(0, global_pool="")
        if isinstance(getattr(backbone, "fc_norm", None), nn.Module):
            backbone.fc_norm = nn.Identity()  # of the pooled token, which is not used here
        backbone.unirae_architecture = options
        return backbone

    @classmethod
    def pretrained(cls, source: str, *, name: str, architecture: dict[str, Any]) -> Backbone:
        """The backbone from the hub (``source == name``), a folder of timm's, or a checkpoint file."""
        options = {"model_name": name, **architecture}
        if Path(source).is_dir():
            return cls._with_statistics(*cls._from_folder(Path(source), options))
        if source == name:
            if options["model_name"] != name:
                raise WeightsError(
                    f"timm's hub has no {name}, and {options['model_name']} there has other weights"
                )
            with hub_asked_once():
                try:
                    backbone = cls.skeleton(options, pretrained=True)
                except (OSError, ConfigError) as error:
                    raise WeightsError(
                        f"cannot load {name} from timm's hub: {hub_problem(error, cls.hub_repository(name) or name)}"
                    ) from None
        else:
            backbone = cls.skeleton(options)
            load_strictly(backbone, _without_heads(_read(source), backbone), what=f"encoder ({source})")
        return cls._with_statistics(backbone, backbone.pretrained_cfg)

    @classmethod
    def without_weights(cls, source: str, *, name: str, local_only: bool = False) -> Backbone:
        """The backbone from a folder's ``config.json``, or from timm's own record of a name."""
        try:
            if Path(source).is_dir():
                settings = folder_settings(Path(source))
                options = {**settings["arguments"], "model_name": settings["architecture"]}
                return cls._with_statistics(cls.skeleton(options), settings["statistics"])
            backbone = cls.skeleton({"model_name": name})
        except OSError as error:
            raise WeightsError(f"no encoder {name}: {hub_problem(error, name)}") from None
        return cls._with_statistics(backbone, backbone.pretrained_cfg)

    @classmethod
    def _with_statistics(cls, backbone: Any, said: dict[str, Any]) -> Backbone:
        mean, std = said.get("mean", cls.default_mean), said.get("std", cls.default_std)
        return Backbone(backbone, tuple(mean), tuple(std))

    @classmethod
    def hub_repository(cls, name: str) -> str | None:
        """Repository of a model on the Hugging Face hub; None for one that lies elsewhere or nowhere.

        Raises:
            WeightsError: If timm knows no such model.
        """
        import timm
        from timm.models import parse_model_name

        try:
            place, identifier = parse_model_name(name)
            if place == "hf-hub":
                return identifier.split("@")[0]
            published = timm.get_pretrained_cfg(name) if place is None and timm.is_model(identifier) else None
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"timm knows no {name}: {str(error).splitlines()[0]}") from None
        return (published.hf_hub_id or None) if published is not None else None

    @property
    def usual_size(self) -> tuple[int, int]:
        """The (height, width) that the patch embedding was built for."""
        backbone: Any = self.backbone
        return as_size(backbone.patch_embed.img_size)

    @classmethod
    def _from_folder(cls, folder: Path, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Load the backbone of a folder that timm published or saved, and the folder's own pixel statistics.

        As timm itself does, but strictly: timm lets keys be missing where it drops the classifier.
        """
        described = folder_settings(folder)
        name = options["model_name"]
        of_list = not Path(name).exists() and ":" not in name  # a name of timm's own, not a folder or hf-hub:
        if of_list and name.split(".")[0] != described["architecture"]:
            raise WeightsError(f"{folder} holds a {described['architecture']}, not a {name}")
        from safetensors import SafetensorError
        from timm.models._hub import load_state_dict_from_path

        backbone = cls.skeleton(
            {**described["arguments"], **options, "model_name": described["architecture"]}
        )
        if of_list:  # with its tag, so that the hub finds the same weights for who lacks the folder
            backbone.unirae_architecture["model_name"] = name
        try:
            state = load_state_dict_from_path(folder)
        except SafetensorError as error:
            raise WeightsError(
                f"{folder}: its weights are truncated or no safetensors file ({error}). Copy them again"
            ) from None
        except (OSError, RuntimeError, ValueError) as error:
            raise WeightsError(f"{folder}: {str(error).splitlines()[0]}") from None
        of_its_family = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
        if of_its_family is not None:
            state = of_its_family(state, backbone)
        load_strictly(backbone, _without_heads(state, backbone), what=f"encoder ({folder})")
        return backbone, described["statistics"]

    def last_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n c"]:
        backbone: Any = self.backbone
        tokens = backbone.forward_features(pixels)
        if self._identity.norm_affine or not self._identity.final_norm:
            return tokens
        return F.layer_norm(tokens, (self.width,), eps=backbone.norm.eps)  # for models without a final norm

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        backbone: Any = self.backbone
        return len(backbone.blocks)

    def visit_blocks(self, pixels: Float[Tensor, "b 3 H W"], layers: Sequence[int], visitor: Visitor) -> None:
        """One pass that ends after the deepest of the blocks."""
        backbone: Any = self.backbone
        tokens = backbone.forward_intermediates(
            pixels,
            indices=list(layers),
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
            return_prefix_tokens=True,
        )
        for layer, found in zip(layers, tokens, strict=True):  # a pair where there are tokens in front
            visitor(layer, found if isinstance(found, Tensor) else torch.cat([found[1], found[0]], dim=1))

    def block_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b n c"]]:
        backbone: Any = self.backbone
        return backbone.forward_intermediates(pixels, output_fmt="NLC", intermediates_only=True)


def _check_plain(backbone: Any, name: str) -> None:
    """Refuse a pyramid, whose tokens grow wider from stage to stage; its final norm has another width than its patches.

    Raises:
        ConfigError: If the tokens are not all of one width; the message says the shape that the encoder gave.
    """
    if backbone.num_features == backbone.embed_dim and hasattr(backbone, "norm"):
        return
    size = getattr(backbone.patch_embed, "img_size", None) or (224, 224)
    device = next(backbone.parameters()).device
    with torch.no_grad():
        shape = tuple(backbone.eval().forward_features(torch.zeros(1, 3, *size, device=device)).shape)
    raise ConfigError(
        f"{name}: the encoder gave {shape} for {size[0]}×{size[1]} px: it is not a plain ViT (one token per patch, all "
        "of one width, class and register tokens in front)"
    )


def folder_settings(folder: Path) -> dict[str, Any]:
    """Read ``architecture``, ``arguments`` of create_model and pixel ``statistics`` from a folder's ``config.json``.

    Raises:
        WeightsError: If there is no configuration, or it is not timm's.
    """
    file = folder / "config.json"
    content = read_json(file) if file.is_file() else {}
    if "architecture" not in content:
        raise WeightsError(f"{file} names no architecture: it is not the folder of a timm model")
    not_ours = ("num_classes", "global_pool", "pretrained", "dynamic_img_size")
    return {
        "architecture": content["architecture"],
        "arguments": {k: v for k, v in content.get("model_args", {}).items() if k not in not_ours},
        "statistics": content.get("pretrained_cfg", content),  # older folders have them side by side
    }


def _without_heads(state: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """The tensors without those of heads that the backbone does not have."""
    own = backbone.state_dict().keys()
    return {key: tensor for key, tensor in state.items() if key in own or not key.startswith(_HEADS)}


def _read(source: str) -> dict[str, Tensor]:
    """A checkpoint file: safetensors, a torch file of tensors, or the state of a training run.

    MoCo v3's holds its network twice; the one that its own evaluation reads is not the momentum copy.
    """
    if Path(source).suffix == ".safetensors":
        return load_safetensors(source)
    state = load_tensors(source)
    state = state.get("state_dict", state)
    inside = {k.removeprefix(_OF_MOCO): t for k, t in state.items() if k.startswith(_OF_MOCO)}
    return inside or state
