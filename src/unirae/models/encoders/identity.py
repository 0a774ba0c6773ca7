"""Identity of an encoder, in a form that a checkpoint can carry, and the part of it that decides its tokens."""

import json
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np

from unirae.core.errors import WeightsError

Rgb = tuple[float, float, float]
RopePeriods = Literal["exact", "bf16"]

_NAMES_AND_PLACES = frozenset({"name", "source", "weights", "embedded"})
"""The fields that no token depends on."""
_READING = ("layers", "combine", "add_token_mean", "norm_affine", "final_norm", "rope_periods")
_OF_TRANSFORMERS = frozenset({"dinov2", "dinov3", "siglip2", "mae", "generic_hf"})
_UNREAD = (
    "*dropout*",
    "*drop_path*",
    "initializer_*",
    "layerscale_value",
    "mask_ratio",
    "norm_pix_loss",
    "decoder_*",
    "out_features",
    "out_indices",
    "stage_names",
    "apply_layernorm",
    "reshape_hidden_states",
    "vision_use_head",
)
"""Keys of transformers' configurations that only training, fresh weights or another head read."""


@dataclass(frozen=True, kw_only=True)
class EncoderIdentity:
    """Enough to build the same encoder again, and to notice when it is another one.

    A field that is added later decides the tokens (:meth:`decisive`), and needs a default with the meaning that
    encoders had before.

    Attributes:
        kind: which adapter ("dinov2", "dinov3", "siglip2", "mae", "generic_hf", "timm").
        name: the model's name on its hub.
        source: what the weights came from: the hub name, or an absolute path.
        weights: where they came from: "hub", "random" or "path".
        config: the backbone's own configuration; builds its skeleton without a hub.
        pixel_mean, pixel_std: of RGB in [0, 1].
        sha256: of the backbone's tensors; empty on the meta device.
        embedded: the weights are nowhere else (random, or trained here), so they travel inside checkpoints.
        layers: the blocks whose normed tokens are combined, from 0, in rising order; None: the last one alone.
        combine: the way in which they are combined.
        add_token_mean: add the mean over the patch tokens of the deepest chosen block to every patch token.
        norm_affine: keep the affine part of the final norm.
        final_norm: apply the final norm; without it tokens are those of the blocks.
        rope_periods: rotary periods as computed, or rounded to bf16 as DINOv3 was released with.
    """

    kind: str
    name: str
    source: str
    weights: Literal["hub", "random", "path"]
    config: dict[str, Any]
    pixel_mean: Rgb
    pixel_std: Rgb
    embedded: bool
    sha256: str = ""
    layers: tuple[int, ...] | None = None
    combine: Literal["mean", "sum"] = "mean"
    add_token_mean: bool = False
    norm_affine: bool = False
    final_norm: bool = True
    rope_periods: RopePeriods = "exact"

    def decisive(self, *, input_size: tuple[int, int] | None = None) -> dict[str, Any]:
        """The decisive part, on which the tokens of an image depend; caches, records and fingerprints compare it.

        A field stands in it as long as its value is not its default, so that a new field whose default is the meaning
        of before leaves all records and fingerprints of before as they are.

        Args:
            input_size: (height, width) in pixels that images are resized to; None where they go in as they are.

        Returns:
            Plain values, equal after a round trip through JSON; ``config`` stands there as ``architecture``.
        """
        found = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in _NAMES_AND_PLACES and getattr(self, field.name) != field.default
        }
        found["architecture"] = architecture_read(self.kind, found.pop("config"))
        found |= {name: as_applied(found[name]) for name in ("pixel_mean", "pixel_std")}
        if input_size is not None:
            found["input_size"] = list(input_size)
        return json.loads(json.dumps(found))

    @property
    def reading(self) -> dict[str, Any]:
        """The way in which tokens are read from the backbone, as arguments of ``build_encoder``."""
        return {name: getattr(self, name) for name in _READING}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "pixel_mean": list(self.pixel_mean), "pixel_std": list(self.pixel_std)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "EncoderIdentity":
        """Build an identity from the dictionary of :meth:`to_dict`."""
        try:
            tuples = {key: tuple(content[key]) for key in ("pixel_mean", "pixel_std")}
            if content.get("layers") is not None:
                tuples["layers"] = tuple(content["layers"])
            return cls(**{**content, **tuples})
        except (TypeError, KeyError) as error:
            raise WeightsError(f"this is no encoder identity of unirae: {error}") from None


def architecture_read(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """The part of a backbone's configuration that its tokens depend on.

    Of a kind of one's own it is all: its configuration may say which blocks are read, or how.
    """
    if kind in _OF_TRANSFORMERS:
        return {k: v for k, v in config.items() if not any(fnmatchcase(k, unread) for unread in _UNREAD)}
    if kind == "timm" and "model_name" in config:  # without the tag of its weights, which their hash names
        return {**config, "model_name": str(config["model_name"]).rpartition("/")[2].split(".")[0]}
    return dict(config)


def as_applied(values: Any) -> list[float]:
    """Pixel statistics as applied, in float32, by their shortest decimals: 0.48500001430511475 is 0.485."""
    return [float(str(np.float32(value))) for value in values]
