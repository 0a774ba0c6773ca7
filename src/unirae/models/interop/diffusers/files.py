"""The files of a diffusers model's folder: configuration and weights, in one file or several; safetensors only."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unirae.core.errors import WeightsError
from unirae.core.io import load_safetensors, read_json, save_safetensors
from unirae.core.log import get_logger

log = get_logger(__name__)

_STEM = "diffusion_pytorch_model"
WEIGHTS = f"{_STEM}.safetensors"


def read_weights(folder: Path, *, variant: str | None = None) -> dict[str, Tensor]:
    """All tensors of a model, as float32.

    Args:
        variant: "fp16", say, for ``diffusion_pytorch_model.fp16.safetensors``.

    Raises:
        WeightsError: If files are missing or truncated, or if parts do not fit their index.
    """
    infix = f".{variant}" if variant else ""
    single, index = folder / f"{_STEM}{infix}.safetensors", folder / f"{WEIGHTS}.index{infix}.json"
    if index.is_file():
        tensors = _read_parts(folder, index)
    elif single.is_file():
        tensors = load_safetensors(single)
    else:
        raise WeightsError(f"no {single.name} in {folder}{_what_there_is(folder)}")
    for key, tensor in tensors.items():
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise WeightsError(
                f"{folder}: {key} is of {tensor.dtype}; they are read as float32, from 32- or 16-bit floats"
            )
    narrow = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.dtype != torch.float32}
    if narrow:
        log.info("%s holds %s: read as float32", folder, ", ".join(sorted(narrow)))
    return {key: tensor.float() for key, tensor in tensors.items()}


def write_weights(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write all tensors to one file, as diffusers reads it."""
    save_safetensors(folder / WEIGHTS, tensors, metadata={"format": "pt"})


def write_config(path: Path, content: dict[str, Any]) -> None:
    """JSON with a line for each key: the statistics' 400,000 numbers would take as many, and seconds to write."""
    lines = (
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()
    )
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _read_parts(folder: Path, index: Path) -> dict[str, Tensor]:
    content: Any = read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise WeightsError(f"{index} has no weight_map: it is no index of diffusers")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise WeightsError(f"{index} names {name}, which is not a file beside it")
        part = load_safetensors(folder / name)
        listed = {key for key, place in places.items() if place == name}
        if part.keys() != listed:
            different = sorted(part.keys() ^ listed)
            raise WeightsError(f"{folder / name} and {index.name} disagree about {', '.join(different[:3])}")
        tensors |= part
    return tensors


def _what_there_is(folder: Path) -> str:
    if not folder.is_dir():
        return ": there is no such folder"
    files = sorted(path.name for path in folder.glob(f"{_STEM}*"))
    if any(name.endswith(".bin") for name in files):
        return (
            f"; {', '.join(files)} is a pickle, which could run code: save it again with "
            "save_pretrained(folder, safe_serialization=True)"
        )
    if files:
        return f", but {', '.join(files)}: name its variant, such as variant='fp16', or variant=None for none"
    return ""
