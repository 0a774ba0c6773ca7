"""Our format for inference: a folder with ``config.json`` and ``model.safetensors``, nothing that could run code.

It holds what a checkpoint holds for use, without optimizers and raw weights: the averaged decoder or diffusion
transformer, the latents' statistics, and the encoder where its weights are nowhere else. A generator's folder has the
folder of its autoencoder inside (``rae/``) and that of its guide, if it has one (``guide/``), so that it can be moved
and uploaded as a whole. What is read back has the form of a checkpoint's content: see
:func:`~unirae.models.checkpoints.reading.open_checkpoint`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from torch import Tensor

from unirae.core.errors import WeightsError
from unirae.core.io import file_sha256, load_safetensors, save_safetensors, write_atomically, write_json
from unirae.models.encoders.identity import EncoderIdentity
from unirae.models.encoders.licences import licence_of

CONFIG, WEIGHTS, LICENCE = "config.json", "model.safetensors", "ENCODER_LICENCE.txt"
FORMAT = "unirae"
FORMAT_VERSION = 1

_Types = tuple[type, ...]

_OF_ANY: dict[str, _Types] = {
    "kind": (str,),
    "version": (str,),
    "commit": (str, NoneType),
    "step": (int, NoneType),
    "config": (dict,),
    "origin": (dict, NoneType),
    "exported_weights": (str,),
    "weights_sha256": (str,),
}
_KEYS: dict[str, dict[str, _Types]] = {
    "stage1": _OF_ANY
    | {
        "rae": (dict,),
        "rae.encoder": (dict,),
        "rae.decoder": (dict,),
        "rae.rae": (dict,),
        "latent_stats_info": (dict,),
    },
    "stage2": _OF_ANY
    | {
        "dit": (dict,),
        "dit.kind": (str,),
        "dit.architecture": (dict,),
        "dit.time_shift": (int, float),
        "latent_stats_info": (dict, NoneType),
        "rae": (dict,),
        "rae.path": (str, NoneType),
        "rae.fingerprint": (str,),
        "rae.recipe": (dict, NoneType),
        "class_names": (list,),
        "ema": (dict,),
        "ema.ema": (int, float, NoneType),
        "sampling": (dict, NoneType),
        "time_distribution": (str,),
    },
}
"""A dot is a step down; what is above comes first."""
_MAY_BE_ABSENT = {"origin", "exported_weights", "weights_sha256", "sampling", "time_distribution"}
_JSON = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
    NoneType: "null",
}

_NETWORK = {"stage1": "decoder", "stage2": "dit"}
"""Name of the averaged network in the file, by kind."""


def is_model_folder(folder: str | Path) -> bool:
    """Say whether ``folder`` is of this format, by its files and the first words of its configuration."""
    folder = Path(folder)
    if not _has_both(folder) or broken_config(folder) is not None:
        return False
    content = load_config(folder / CONFIG)
    return isinstance(content, dict) and content.get("format") == FORMAT


def broken_config(folder: str | Path) -> str | None:
    """Why the configuration of a folder that has both files cannot even be read; None where it can, or has not."""
    try:
        if _has_both(Path(folder)):
            load_config(Path(folder) / CONFIG)
    except WeightsError as error:
        return str(error)
    return None


def _has_both(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def write_model_folder(
    folder: Path, content: dict[str, Any], parts: Mapping[str, dict[str, Any]] | None = None
) -> None:
    """Write the part of a checkpoint that is for use into ``folder``, which exists and is empty.

    Args:
        content: ``unirae`` and ``state_dict``, as :func:`~.reading.open_checkpoint` gives them.
        parts: the like for the folders inside, by their names.
    """
    for name, inner in (parts or {}).items():
        (folder / name).mkdir()
        write_model_folder(folder / name, inner)
    about = dict(content["unirae"])
    network = _NETWORK[about["kind"]]
    tensors = {f"{network}.{name}": tensor for name, tensor in part(content["state_dict"], "ema").items()}
    if about["kind"] == "stage1":
        inside = about.pop("encoder_state") or {}
        tensors |= {f"encoder.{name}": tensor for name, tensor in inside.items()}
        if inside:
            _write_licence(folder, EncoderIdentity.from_dict(about["rae"]["encoder"]))
        stats = dict(about.pop("latent_stats") or {})
        about["latent_stats_info"] = stats.pop("info", {})
        tensors |= {f"latent_stats.{name}": tensor for name, tensor in stats.items() if tensor is not None}
    save_safetensors(folder / WEIGHTS, tensors)
    about["weights_sha256"] = file_sha256(folder / WEIGHTS)
    check_config(about, folder / CONFIG)
    write_json(folder / CONFIG, {"format": FORMAT, "format_version": FORMAT_VERSION, **about})


def _write_licence(folder: Path, encoder: EncoderIdentity) -> None:
    """Say beside an encoder's weights under which licence they were published, if they were."""
    licence = licence_of(encoder)
    if licence is not None:
        text = f"Encoder {encoder.name}: {licence.name}\n" + (
            f"\n{licence.notice}\n" if licence.notice else ""
        )
        write_atomically(folder / LICENCE, lambda file: file.write(text.encode()))


def read_model_folder(folder: Path) -> dict[str, Any]:
    """The content of a folder in the form of a checkpoint's; its only weights are the average ``ema``.

    Raises:
        WeightsError: If the folder is damaged, or of a newer format; or if the weights are not those that it
            was written with.
    """
    about = read_config(folder / CONFIG)
    tensors = load_safetensors(folder / WEIGHTS)
    _check_weights(folder / WEIGHTS, about.pop("weights_sha256", None))
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


def _check_weights(file: Path, recorded: str | None) -> None:
    """Compare the file's hash with the one beside it; folders that were written earlier have none.

    The hash is of the file and not of the tensors, because that is one pass over bytes that are in the system's cache
    by then, without a copy of each tensor (0.2 s for 300 MB); and ``sha256sum`` can check it, too.
    """
    if recorded is not None and (found := file_sha256(file)) != recorded:
        raise WeightsError(
            f"{file} is damaged, or not the file that {CONFIG} beside it was written for: SHA-256 {found[:12]}…, "
            f"recorded {recorded[:12]}…. Copy the folder again; if you changed the weights on purpose, remove "
            f"weights_sha256 from {CONFIG}"
        )


def load_config(file: Path) -> Any:
    """Read the JSON in a file, whatever it says.

    Raises:
        WeightsError: If the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(file.read_text())
    except ValueError as error:  # of the JSON or of its characters
        raise WeightsError(f"{file} is not valid JSON ({error}). Copy the folder again") from None
    except OSError as error:
        raise WeightsError(f"cannot read {file}: {error.strerror}") from None


def read_config(file: Path) -> dict[str, Any]:
    """Read the description of a model from the file, without the words that mark the format.

    Raises:
        WeightsError: If the file is damaged, of another program or of a newer format; or if a key is missing,
            unknown or of a wrong type.
    """
    about = load_config(file)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise WeightsError(f"{file} does not describe a model of unirae")
    version = about.pop("format_version", None)
    del about["format"]
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{file} is of format_version {version}, this unirae reads {FORMAT_VERSION}; update unirae"
        )
    check_config(about, file)
    return about


def check_config(about: dict[str, Any], file: Path) -> None:
    """Refuse a description that loading could not use, or that says more than is understood.

    Raises:
        WeightsError: If a key is missing, unknown or of a wrong type; the message names the file and the key.
    """
    kind = about.get("kind")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise WeightsError(f"{file}: kind {kind!r} is unknown; expected one of {', '.join(_KEYS)}")
    for key, types in _KEYS[kind].items():
        above, _, name = key.rpartition(".")
        place = about[above] if above else about
        if name in place:
            _check_type(file, key, place[name], types)
        elif key not in _MAY_BE_ABSENT:
            raise WeightsError(f"{file} lacks {key}, which a {kind} model has. Export or copy it again")
    known = {key for key in _KEYS[kind] if "." not in key}
    if unknown := sorted(about.keys() - known):
        raise WeightsError(
            f"{file} has an unknown {', '.join(unknown)}; a {kind} model has {', '.join(sorted(known))}. Was it "
            "written by a newer unirae?"
        )


def _check_type(file: Path, key: str, value: Any, types: _Types) -> None:
    is_right = isinstance(value, types) and not isinstance(value, bool)  # True counts as an int
    if not is_right:
        words = " or ".join(_JSON[wanted] for wanted in types)
        raise WeightsError(f"{file}: {key}={value!r} must be {words}")


def part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors below ``name``, their keys without that prefix."""
    return {key.removeprefix(f"{name}."): t for key, t in state.items() if key.startswith(f"{name}.")}
