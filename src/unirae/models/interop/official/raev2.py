"""Encoders of RAEv2 by the names of its YAML, such as ``dinov3mls-vit-l16[layers=11.13.15.17.19.21.23]``.

A name has three parts between dashes, the family, ``vit`` and a size, and perhaps flags in brackets. A family says how
tokens are read: from the last block, or as a combination of blocks (``…mls``), with a norm of its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from unirae.core.conventions import IMAGENET_MEAN, IMAGENET_STD
from unirae.core.errors import ConfigError
from unirae.models.encoders.identity import EncoderIdentity, as_applied

_DINOV3 = {
    "s16": "facebook/dinov3-vits16-pretrain-lvd1689m",
    "s16plus": "facebook/dinov3-vits16plus-pretrain-lvd1689m",
    "b16": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "l16": "facebook/dinov3-vitl16-pretrain-lvd1689m",
    "h16plus": "facebook/dinov3-vith16plus-pretrain-lvd1689m",
    "7b16": "facebook/dinov3-vit7b16-pretrain-lvd1689m",
}
_DINOV2 = {
    size: f"facebook/dinov2-with-registers-{name}"
    for size, name in {"s": "small", "b": "base", "l": "large", "g": "giant"}.items()
}
_SIGLIP2 = {
    size: f"google/siglip2-{name}-patch16-256"
    for size, name in {"b": "base", "l": "large", "so400m": "so400m", "g": "giant-opt"}.items()
}
_MAE = {size: f"facebook/vit-mae-{name}" for size, name in {"b": "base", "l": "large"}.items()}
_EUPE = {f"{size}16": f"facebook/EUPE-ViT-{size.upper()}" for size in "tsb"}
_WEBSSL = {
    size.replace("-", "_"): f"facebook/webssl-{size}"
    for size in (
        *(f"dino{size}-full2b-224" for size in ("300m", "1b", "2b", "3b", "5b")),
        *(f"dino7b-full8b-{side}" for side in (224, 378, 518)),
        *(f"dino{size}-{text}2b-224" for size in ("2b", "3b") for text in ("light", "heavy")),
    )
}
_TIPS = {
    size: f"google/tipsv2-{name}"
    for size, name in {"b14": "b14", "l14": "l14", "so14": "so400m14", "g14": "g14"}.items()
}
_IMAGENET = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
_CLIP = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
_RELEASED = {"rope_periods": "bf16"}


@dataclass(frozen=True, kw_only=True)
class _Family:
    """A family of encoders.

    Attributes:
        kind: ours.
        hub: its sizes, each with the name of its weights on the Hugging Face hub.
        reading: how every one of them is read, as arguments of
            :func:`~unirae.models.encoders.build.build_encoder`.
        patch_size: in pixels.
        layers: the blocks of a size whose name chooses none; None where the last one is meant.
        flags: those that may stand in brackets.
        resized: its positions follow the image's size; False: only images of 256 px are read.
    """

    kind: str
    hub: Mapping[str, str]
    reading: Mapping[str, Any] = field(default_factory=dict)
    patch_size: int = 16
    layers: Mapping[str, tuple[int, ...]] | None = None
    flags: tuple[str, ...] = ()
    resized: bool = True


_FOUR_OF_12, _FOUR_OF_24 = (2, 5, 8, 11), (5, 11, 17, 23)
_FAMILIES = {
    "dinov3": _Family(kind="dinov3", hub=_DINOV3, reading=_RELEASED, flags=("norm",)),
    "dinov3mls": _Family(
        kind="dinov3",
        hub=_DINOV3,
        reading=_RELEASED | {"add_token_mean": True},
        layers={"s16": _FOUR_OF_12, "b16": _FOUR_OF_12, "l16": _FOUR_OF_24, "h16plus": (8, 16, 24, 31)},
        flags=("norm", "layers"),
    ),
    "dinov2": _Family(kind="dinov2", hub=_DINOV2, reading=_IMAGENET, patch_size=14, flags=("norm",)),
    "dinov2mls": _Family(
        kind="dinov2", hub=_DINOV2, reading=_IMAGENET, patch_size=14, layers={}, flags=("norm", "layers")
    ),
    "siglip2": _Family(
        kind="siglip2", hub=_SIGLIP2, reading=_IMAGENET | {"norm_affine": True}, resized=False
    ),
    "siglip2mls": _Family(
        kind="siglip2",
        hub=_SIGLIP2,
        reading=_IMAGENET | {"norm_affine": True, "add_token_mean": True},
        layers={"b": _FOUR_OF_12, "l": _FOUR_OF_24, "so400m": (5, 12, 19, 26), "g": (10, 20, 30, 39)},
        flags=("layers",),
        resized=False,
    ),
    "mae": _Family(kind="mae", hub=_MAE, reading=_IMAGENET),
    "eupe": _Family(kind="dinov3", hub=_EUPE, reading=_RELEASED),
    "eupemls": _Family(
        kind="dinov3",
        hub=_EUPE,
        reading=_RELEASED | {"combine": "sum"},
        layers=dict.fromkeys(_EUPE, _FOUR_OF_12),
        flags=("layers",),
    ),
    "webssl": _Family(kind="dinov2", hub=_WEBSSL, reading=_IMAGENET | {"norm_affine": True}, patch_size=14),
    "tipsv2": _Family(
        kind="generic_hf", hub=_TIPS, reading={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}, patch_size=14
    ),
    "clip": _Family(
        kind="generic_hf",
        hub={"L": "openai/clip-vit-large-patch14"},
        reading=_CLIP | {"final_norm": False},
        patch_size=14,
        resized=False,
    ),
    "jepa": _Family(
        kind="generic_hf",
        hub={"h": "facebook/ijepa_vith14_1k"},
        reading=_IMAGENET | {"norm_affine": True},
        patch_size=14,
        resized=False,
    ),
}
_NOT_HERE = {
    **dict.fromkeys(("pe", "spatialpe", "langpe"), "timm resizes PE's positions in another way than RAEv2"),
    "mocov3": "its weights lie on no hub by whose name they could be found",
}
"""Families of RAEv2 that are not converted, and why (docs/converting.md)."""


@dataclass(frozen=True, kw_only=True)
class NamedEncoder:
    """An encoder that a name of RAEv2 means.

    Attributes:
        name: the whole name.
        kind: ours.
        source: the weights' name on the Hugging Face hub.
        reading: further arguments of :func:`~unirae.models.encoders.build.build_encoder`.
        input_size: the side in pixels that its images are resized to.
    """

    name: str
    kind: str
    source: str
    reading: dict[str, Any]
    input_size: int


def named_encoder(name: str, resolution: int, *, where: str) -> NamedEncoder:
    """The encoder of a name, for images of ``resolution`` pixels.

    Args:
        where: the key of the YAML, for errors.

    Raises:
        ConfigError: If there is no encoder of that name, or it does not take images of that size.
    """
    match = re.fullmatch(r"([^\[\]-]+)-([^\[\]-]+)-([^\[\]-]+)(?:\[([^\[\]]*)\])?", name)
    if match is None:
        raise ConfigError(f"{where}={name}: expected FAMILY-vit-SIZE[flags], such as dinov3-vit-l16")
    family, network, size, flags = match.groups()
    if family in _NOT_HERE:
        raise ConfigError(
            f"{where}={name}: encoders of the family {family} are not converted: {_NOT_HERE[family]}"
        )
    if family not in _FAMILIES or network != "vit":
        raise ConfigError(
            f"{where}={name}: there is no encoder {family}-{network}{_meant(family, _FAMILIES)}"
        )
    about = _FAMILIES[family]
    if size not in about.hub:
        raise ConfigError(f"{where}={name}: {family} has no size {size}{_meant(size, about.hub)}")
    reading = dict(about.reading) | _flags(flags, about, f"{where}={name}")
    if about.layers is not None and "layers" not in reading:
        if size not in about.layers:
            raise ConfigError(f"{where}={name}: name the blocks, as in {family}-vit-{size}[layers=2.5.8.11]")
        reading["layers"] = about.layers[size]
    if resolution < 1 or (about.patch_size == 14 and resolution % 256):
        raise ConfigError(
            f"{where}={name}: resolution={resolution}; give a multiple of {256 if about.patch_size == 14 else 16}"
        )
    if about.kind == "siglip2" and list(layers := reading.get("layers") or ()) != sorted(layers):
        raise ConfigError(
            f"{where}={name}: RAEv2 adds the mean over patches of the block that is named last, and here it is the "
            "deepest one's; name the blocks in rising order"
        )
    if not about.resized and resolution != 256:
        raise ConfigError(f"{where}={name} reads images of 256 px alone; resolution is {resolution}")
    if resolution % about.patch_size and about.patch_size == 16:
        raise ConfigError(f"resolution={resolution} does not split into patches of 16 px")
    input_size = resolution if about.patch_size == 16 else 224 * (resolution // 256)
    return NamedEncoder(
        name=name, kind=about.kind, source=about.hub[size], reading=reading, input_size=input_size
    )


def name_of(identity: EncoderIdentity, converted_from: str | None, input_size: int) -> str:
    """The name by which RAEv2 knows an encoder.

    Args:
        converted_from: the name that it had where it came from RAEv2; its weights may be of any size.
        input_size: the side in pixels of its images.

    Raises:
        ConfigError: If RAEv2 has no such encoder, or reads it in another way.
    """
    if identity.weights == "random" or (identity.embedded and converted_from is None):
        raise ConfigError(
            f"RAEv2 loads its encoders by name, and the weights of {identity.name} are random or were trained here: it "
            "could not load them"
        )
    candidates = [converted_from] if converted_from else []
    for family, about in _FAMILIES.items():
        for size, source in about.hub.items():
            if (about.kind, source) == (identity.kind, identity.name):
                flags = ["norm"] if identity.norm_affine and "norm" in about.flags else []
                if identity.layers is not None and "layers" in about.flags:
                    flags.append("layers=" + ".".join(map(str, identity.layers)))
                candidates.append(f"{family}-vit-{size}" + (f"[{','.join(flags)}]" if flags else ""))
    for name in candidates:
        if _is_read_so(name, identity, input_size):
            return name
    blocks = "its last block" if identity.layers is None else f"its blocks {list(identity.layers)}"
    raise ConfigError(
        f"RAEv2 has no encoder that reads {identity.name} ({identity.kind}) as this model does: {blocks}, "
        f"combine={identity.combine}, add_token_mean={str(identity.add_token_mean).lower()}, "
        f"norm_affine={str(identity.norm_affine).lower()}, final_norm={str(identity.final_norm).lower()}, "
        f"rope_periods={identity.rope_periods}, "
        f"mean {list(identity.pixel_mean)}, std {list(identity.pixel_std)}, images of {input_size} px"
    )


def resolution_of(name: str, input_size: int) -> int:
    """The ``resolution`` of the images whose encoder of that name works at ``input_size`` pixels."""
    return input_size if _FAMILIES[name.split("-")[0]].patch_size == 16 else input_size // 224 * 256


def _is_read_so(name: str, identity: EncoderIdentity, input_size: int) -> bool:
    try:
        named = named_encoder(name, resolution_of(name, input_size), where="encoder_name")
    except ConfigError:
        return False
    reading = named.reading
    layers = None if reading.get("layers") is None else tuple(sorted(reading["layers"]))
    wanted = {
        "kind": named.kind,
        "layers": layers,
        "combine": reading.get("combine", "mean"),
        "add_token_mean": reading.get("add_token_mean", False),
        "norm_affine": reading.get("norm_affine", False),
        "final_norm": reading.get("final_norm", True),
        "rope_periods": reading.get("rope_periods", "exact"),
    }
    pixels = [
        (identity.pixel_mean, reading.get("mean", IMAGENET_MEAN)),
        (identity.pixel_std, reading.get("std", IMAGENET_STD)),
    ]
    return (
        all(as_applied(mine) == as_applied(theirs) for mine, theirs in pixels)
        and input_size == named.input_size
        and wanted == {key: getattr(identity, key) for key in wanted}
    )


def _flags(text: str | None, about: _Family, where: str) -> dict[str, Any]:
    """What the flags in brackets say, as arguments of ``build_encoder``."""
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for flag in filter(None, (text or "").split(",")):
        key, _, value = flag.partition("=")
        if key == "woreg":
            raise ConfigError(
                f"{where}: DINOv2 without registers is not converted: transformers resizes its positions otherwise, "
                "and tokens differ by a fifth"
            )
        if key in seen:
            raise ConfigError(f"{where}: {key} stands twice")
        seen.add(key)
        if key not in about.flags or (key == "norm" and value):
            raise ConfigError(f"{where}: unknown flag {flag}; expected {' or '.join(about.flags) or 'none'}")
        if key == "norm":
            found["norm_affine"] = True
        elif not re.fullmatch(r"\d+(\.\d+)*", value):
            raise ConfigError(
                f"{where}: layers={value}: name blocks with dots between, as in layers=2.5.8.11"
            )
        else:
            found["layers"] = tuple(int(number) for number in value.split("."))
    return found


def _meant(word: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(word, known, n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(known)}"
