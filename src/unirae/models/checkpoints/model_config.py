"""Schema of ``config.json`` in an exported folder: checked once, when it is read or written."""

import json
from pathlib import Path
from types import NoneType
from typing import Any

from unirae.core.errors import WeightsError

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
