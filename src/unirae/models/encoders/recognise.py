"""Which adapter an encoder needs, from its folder or its hub name alone."""

import json
from pathlib import Path

from unirae.core.errors import WeightsError
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import build_encoder

_KINDS = {
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
    "vit_mae": "mae",
    "siglip": "siglip2",
    "siglip2": "siglip2",
    "siglip_vision_model": "siglip2",
    "siglip2_vision_model": "siglip2",
}
"""Adapters by transformers' model_type; every other plain ViT is read by the generic one."""


def open_encoder(source: str) -> Encoder:
    """A pretrained encoder from a folder in transformers' format, or from a hub name (timm's as ``timm/NAME``).

    Raises:
        WeightsError: it cannot be found, or is of no kind that is known here.
    """
    path = Path(source).expanduser()
    if path.exists():
        return build_encoder(kind=_kind_of_folder(path), name=str(path))
    if source.removeprefix("hf-hub:").startswith("timm/"):
        return build_encoder(kind="timm", name=source)
    return build_encoder(kind=_kind_on_hub(source), name=source)


def _kind_of_folder(folder: Path) -> str:
    file = folder / "config.json"
    if not file.is_file():
        raise WeightsError(
            f"{folder} holds no config.json; an encoder's folder is one in transformers' or timm's format"
        )
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise WeightsError(f"{file} is not valid JSON ({error})") from None
    if "model_type" not in content:
        raise WeightsError(f"{file} names no model_type; a model of timm is given by its hub name, timm/NAME")
    return _KINDS.get(content["model_type"], "generic_hf")


def _kind_on_hub(name: str) -> str:
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(name).model_type
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{name} is no folder here and cannot be had from the hub ({reason}). Fetch it where there is a network "
            f"(`hf download {name} --local-dir DIR`) and give DIR"
        ) from None
    return _KINDS.get(found, "generic_hf")
