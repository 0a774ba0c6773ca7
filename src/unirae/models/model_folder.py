"""Our format for inference: a folder with ``config.json`` and ``model.safetensors``, nothing that could run code.

It holds what a checkpoint holds for use, without optimizers and raw weights: the averaged decoder or diffusion
transformer, the latents' statistics, and the encoder where its weights are nowhere else. A generator's folder has the
folder of its autoencoder inside (``rae/``) and that of its guide, if it has one (``guide/``), so that it can be moved
and uploaded as a whole. What is read back has the form of a checkpoint's content: see
:func:`~unirae.models.loading.read_checkpoint`.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from unirae.core.errors import WeightsError
from unirae.core.io import load_safetensors, save_safetensors, write_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = "unirae"
FORMAT_VERSION = 1

_NETWORK = {"stage1": "decoder", "stage2": "dit"}
"""What the averaged network of a kind is called in the file."""


def is_model_folder(folder: str | Path) -> bool:
    """Whether ``folder`` is of this format, by its files and the first words of its configuration."""
    folder = Path(folder)
    if not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        return False
    try:
        content = json.loads((folder / CONFIG).read_text())
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def write_model_folder(folder: Path, content: dict[str, Any]) -> None:
    """Write what a checkpoint holds for use into ``folder``, which exists and is empty.

    Args:
        content: ``unirae`` and ``state_dict``, as :func:`~unirae.models.loading.read_checkpoint` gives them.
    """
    about = dict(content["unirae"])
    network = _NETWORK[about["kind"]]
    tensors = {f"{network}.{name}": tensor for name, tensor in part(content["state_dict"], "ema").items()}
    if about["kind"] == "stage1":
        tensors |= {f"encoder.{name}": tensor for name, tensor in (about.pop("encoder_state") or {}).items()}
        stats = dict(about.pop("latent_stats") or {})
        about["latent_stats_info"] = stats.pop("info", {})
        tensors |= {f"latent_stats.{name}": tensor for name, tensor in stats.items() if tensor is not None}
    write_json(folder / CONFIG, {"format": FORMAT, "format_version": FORMAT_VERSION, **about})
    save_safetensors(folder / WEIGHTS, tensors)


def read_model_folder(folder: Path) -> dict[str, Any]:
    """The content of a folder in the form of a checkpoint's; its only weights are the average ``ema``.

    Raises:
        WeightsError: it is damaged, or of a newer format.
    """
    about = _read_config(folder / CONFIG)
    tensors = load_safetensors(folder / WEIGHTS)
    network = _NETWORK[about["kind"]]
    state = {f"ema.{name}": tensor for name, tensor in part(tensors, network).items()}
    if about["kind"] == "stage1":
        about["encoder_state"] = part(tensors, "encoder") or None
        stats = part(tensors, "latent_stats")
        info = about.pop("latent_stats_info")
        about["latent_stats"] = {"mean": None, "var": None, **stats, "info": info} if stats else None
    known = (f"{network}.", "encoder.", "latent_stats.") if about["kind"] == "stage1" else (f"{network}.",)
    if foreign := [name for name in tensors if not name.startswith(known)]:
        raise WeightsError(
            f"{folder / WEIGHTS} holds tensors that no {about['kind']} model has: {foreign[0]}, …"
        )
    return {"unirae": about, "state_dict": state}


def _read_config(file: Path) -> dict[str, Any]:
    try:
        about = json.loads(file.read_text())
    except ValueError as error:
        raise WeightsError(f"{file} is not valid JSON ({error})") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise WeightsError(f"{file} does not describe a model of unirae")
    version = about.pop("format_version", None)
    del about["format"]
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{file} is of format_version {version}, this unirae reads {FORMAT_VERSION}; update unirae"
        )
    if about.get("kind") not in _NETWORK:
        raise WeightsError(
            f"{file}: kind {about.get('kind')!r} is unknown; expected one of {', '.join(_NETWORK)}"
        )
    return about


def part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors below ``name``, without it."""
    return {key.removeprefix(f"{name}."): t for key, t in state.items() if key.startswith(f"{name}.")}
