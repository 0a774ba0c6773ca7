"""Encoders of Hugging Face transformers: loading them strictly, quietly and offline."""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.hub import hub_asked_once
from unirae.core.log import get_logger
from unirae.core.strict import raise_on_differences
from unirae.models.encoders.base import Backbone, Encoder, plain_norm
from unirae.models.encoders.fusion import Visitor, let_visit
from unirae.models.encoders.grid import as_size
from unirae.models.encoders.identity import EncoderIdentity, Rgb
from unirae.models.hf_loading import here_first, quiet_transformers
from unirae.nn.attention import attend

log = get_logger(__name__)

_LACKS_NORM = "unirae_lacks_norm"
"""Attribute of a backbone whose weights came without the affine part of the final norm."""

T = TypeVar("T")


class HFEncoder(Encoder):
    """An encoder whose backbone is a transformers model; subclasses define what is particular about theirs."""

    keeps_affine: ClassVar[bool] = True
    default_model_type: ClassVar[str | None] = None
    norm_names: ClassVar[tuple[str, ...]] = ("layernorm",)
    ignored_prefixes: ClassVar[tuple[str, ...]] = ()
    """Parts of a published checkpoint that are no part of the encoder, left out knowingly."""

    def __init__(self, *, backbone: Any, identity: EncoderIdentity) -> None:
        config = backbone.config
        use_our_attention(backbone)
        norms = [name for name in self.norm_names if isinstance(getattr(backbone, name, None), nn.Module)]
        if identity.norm_affine and (not norms or getattr(backbone, _LACKS_NORM, False)):
            raise WeightsError(
                f"{argument('encoder.norm_affine', True)}: the weights of {identity.name} have no affine part of the "
                "final norm; set it to null"
            )
        for name in norms if not identity.norm_affine else ():
            plain = plain_norm(getattr(backbone, name), config.hidden_size)
            setattr(backbone, name, plain if identity.final_norm else nn.Identity())
        super().__init__(
            backbone=backbone,
            width=config.hidden_size,
            patch_size=_side(config.patch_size),
            identity=identity,
        )
        self._norm_name = norms[0] if norms else None
        # in a tuple, so that they are no second submodule
        self._blocks = () if identity.layers is None else (let_visit(backbone, config.num_hidden_layers),)

    @classmethod
    def model_class(cls, config: Any) -> Any:
        """The transformers class for this configuration; overridden where AutoModel's choice is not ours."""
        from transformers import AutoModel

        return AutoModel

    @classmethod
    def prepare_config(cls, config: Any) -> Any:
        """Adjust a published configuration to what an encoder needs (no heads, no masking)."""
        return config

    @classmethod
    def configure(cls, architecture: dict[str, Any]) -> Any:
        """A transformers configuration from plain values; unknown keys are an error."""
        from transformers import AutoConfig

        values = dict(architecture)
        model_type = values.pop("model_type", cls.default_model_type)
        if model_type is None:
            raise ConfigError(f"{argument('encoder.architecture')} needs model_type, such as vit or dinov2")
        try:
            defaults = AutoConfig.for_model(model_type)
        except ValueError:
            raise ConfigError(f"transformers knows no model_type={model_type!r}") from None
        refuse_unknown(values, defaults, node=argument("encoder.architecture"))
        return cls.prepare_config(type(defaults)(**values))

    @classmethod
    def skeleton(cls, architecture: dict[str, Any]) -> Any:
        """The backbone with freshly drawn weights; draws from torch's global generator."""
        return cls.skeleton_of(cls.configure(architecture))

    @classmethod
    def skeleton_of(cls, config: Any) -> Any:
        """The backbone with fresh weights, from a configuration that :meth:`prepare_config` adjusted."""
        with quiet_transformers():
            model_class = cls.model_class(config)
            return (
                model_class.from_config(config)
                if hasattr(model_class, "from_config")
                else model_class(config)
            )

    @classmethod
    def pretrained(cls, source: str, *, name: str, architecture: dict[str, Any]) -> Backbone:
        """The backbone from a folder or a hub name; ``config.json`` says the architecture."""
        return here_first(source, partial(cls._load, source))

    @classmethod
    def without_weights(cls, source: str, *, name: str, local_only: bool = False) -> Backbone:
        """The backbone from the configuration alone."""
        config = here_first(source, partial(cls._published, source), local_only=local_only)
        return Backbone(cls.skeleton_of(config), *cls.pixel_statistics(source, local_only=local_only))

    @classmethod
    def hub_repository(cls, name: str) -> str | None:
        """The repository of a hub's model: its own name."""
        return name

    @property
    def usual_size(self) -> tuple[int, int]:
        """The (height, width) that the backbone's configuration names."""
        backbone: Any = self.backbone
        return as_size(backbone.config.image_size)

    @classmethod
    def _published(cls, source: str, *, local_files_only: bool) -> Any:
        """The configuration of a folder or a hub name, adjusted to what an encoder needs; no weights are read."""
        from transformers import AutoConfig

        return cls.prepare_config(AutoConfig.from_pretrained(source, local_files_only=local_files_only))

    @classmethod
    def _load(cls, source: str, *, local_files_only: bool) -> Backbone:
        from safetensors import SafetensorError

        config = cls._published(source, local_files_only=local_files_only)
        try:
            backbone, info = cls.model_class(config).from_pretrained(
                source,
                config=config,
                dtype=torch.float32,
                local_files_only=local_files_only,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that the report below names them
            )
        except (SafetensorError, UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(
                f"{source}: the weight file is truncated, damaged, or holds more than tensors ({reason})"
            ) from None
        norms = tuple(f"{name}." for name in cls.norm_names)
        setattr(backbone, _LACKS_NORM, any(key.startswith(norms) for key in info["missing_keys"]))
        raise_on_differences(
            f"encoder ({source})",
            # the affine part of the last norm is left out (RAE paper, section 3), here and where it was saved from
            missing={
                key for key in info["missing_keys"] if not key.startswith((*cls.ignored_prefixes, *norms))
            },
            unexpected={key for key in info["unexpected_keys"] if not key.startswith(cls.ignored_prefixes)},
            mismatched={str(key) for key in info["mismatched_keys"]},
        )
        return Backbone(backbone, *cls.pixel_statistics(source))

    @classmethod
    def pixel_statistics(
        cls, source: str, *, local_only: bool = False, required: bool = False
    ) -> tuple[Rgb, Rgb]:
        """Mean and std from preprocessor_config.json beside the weights; else this kind's.

        Raises:
            WeightsError: If there are no statistics, and they are ``required``.
        """
        from transformers.utils.hub import cached_file

        file = None
        for local_files_only in (True,) if local_only or Path(source).is_dir() else (True, False):
            with nullcontext() if file or local_files_only else hub_asked_once():
                file = file or cached_file(
                    source,
                    "preprocessor_config.json",
                    local_files_only=local_files_only,
                    _raise_exceptions_for_missing_entries=False,
                    _raise_exceptions_for_connection_errors=False,
                )
        content = {} if file is None else json.loads(Path(file).read_text())
        if not content and required:
            raise WeightsError(
                f"{source} has no preprocessor_config.json here or on the hub: mean and std of the pixels are unknown"
            )
        if not content:
            log.info(
                "%s has no preprocessor_config.json: mean %s, std %s",
                source,
                cls.default_mean,
                cls.default_std,
            )
        if content.get("do_normalize") is False:  # whatever else the file says, nothing is applied
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        mean, std = content.get("image_mean"), content.get("image_std")
        return tuple(mean or cls.default_mean), tuple(std or cls.default_std)  # pyright: ignore[reportReturnType]

    @classmethod
    def describe(cls, backbone: Any) -> dict[str, Any]:
        """The configuration that :meth:`skeleton` rebuilds this backbone from, ready for JSON."""
        full = json.loads(backbone.config.to_json_string(use_diff=False))
        own = _own_keys(backbone.config)
        return {key: value for key, value in full.items() if key in own | {"model_type"}}

    def _call(self, pixels: Float[Tensor, "b 3 H W"], **options: Any) -> Any:
        """Run the backbone; overridden where that wants more than pixels."""
        return self.backbone(pixels, **options)

    def last_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n c"]:
        return self._call(pixels).last_hidden_state

    @property
    def num_blocks(self) -> int:
        """Number of blocks, as the configuration says."""
        backbone: Any = self.backbone
        return backbone.config.num_hidden_layers

    def final_norm(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        if self._norm_name is None:
            return F.layer_norm(tokens, (self.width,), eps=1e-6) if self._identity.final_norm else tokens
        return getattr(self.backbone, self._norm_name)(tokens)

    def visit_blocks(self, pixels: Float[Tensor, "b 3 H W"], layers: Sequence[int], visitor: Visitor) -> None:
        """One pass that ends after the deepest of the blocks."""
        (blocks,) = self._blocks or (None,)
        if blocks is None:
            raise ConfigError(
                f"{argument('encoder.layers')}: {type(self.backbone).__name__} has no list of blocks; set it to null"
            )
        with blocks.visited(layers, visitor):
            self._call(pixels)

    def block_tokens(self, pixels: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b n c"]]:
        return list(self._call(pixels, output_hidden_states=True).hidden_states[1:])  # [0]: the embeddings


def use_our_attention(model: Any) -> None:
    """Let a transformers model call :func:`~unirae.nn.attention.attend` where its attention is the plain one."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def forward(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        plain = attention_mask is None and not dropout and scaling in (None, query.shape[-1] ** -0.5)
        if not plain or options.get("is_causal") or getattr(module, "is_causal", False):
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
            )
        return attend(query, key, value).transpose(1, 2).contiguous(), None

    AttentionInterface.register("unirae", forward)
    model.set_attn_implementation("unirae")


def refuse_unknown(values: Mapping[str, Any], defaults: Any, *, node: str) -> None:
    """Refuse a key that a family of models does not have; transformers would keep it and never look.

    Args:
        values: an architecture.
        defaults: a configuration of the family.
        node: where the user wrote it.

    Raises:
        ConfigError: If there is an unknown key; the message names those that it may mean.
    """
    for key in sorted(values.keys() - defaults.to_dict().keys()):
        own = sorted(_own_keys(defaults))
        meant = " or ".join(get_close_matches(key, own, cutoff=0.8))
        advice = f"did you mean {meant}?" if meant else f"it has {', '.join(own)}"
        raise ConfigError(f"{node}.{key}: {defaults.model_type} has no such key; {advice}")


def _own_keys(config: Any) -> set[str]:
    """The keys of a family of models, without those that every model of transformers has."""
    from transformers import PreTrainedConfig

    return type(config)().to_dict().keys() - PreTrainedConfig().to_dict().keys()


def _side(patch_size: Any) -> int:
    sides = {int(side) for side in (patch_size if isinstance(patch_size, list | tuple) else [patch_size])}
    if len(sides) != 1:
        raise ConfigError(f"patches must be square; this encoder's patch_size is {patch_size}")
    return sides.pop()
