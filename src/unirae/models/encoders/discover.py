"""Choice of the adapter that reads weights which nobody described."""

import json
from pathlib import Path

from unirae.core.arguments import argument
from unirae.core.errors import WeightsError
from unirae.core.hub import hub_asked_once, hub_problem
from unirae.core.weights import carried_folder

_KINDS = {
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
    "dinov3_vit": "dinov3",
    "siglip": "siglip2",
    "siglip_vision_model": "siglip2",
    "vit_mae": "mae",
}


def find_kind(source: str) -> str:
    """The adapter for a folder or hub name in transformers' format; ``generic_hf`` where there is none of its own.

    Raises:
        WeightsError: If there is no ``config.json``, or it names no model.
    """
    file = config_file(source)
    try:
        model_type = json.loads(file.read_text())["model_type"]
    except (ValueError, KeyError, TypeError):
        raise WeightsError(f"{file} names no model_type: it is not a configuration of transformers") from None
    return _KINDS.get(model_type, "generic_hf")


def config_file(source: str) -> Path:
    """Find ``config.json`` of a folder, or of a hub's model.

    Raises:
        WeightsError: If there is no such file.
    """
    from transformers.utils.hub import cached_file

    path = Path(source).expanduser()
    if path.exists():
        if (path / "config.json").is_file():
            return path / "config.json"
        raise WeightsError(
            f"{source} is neither a checkpoint of unirae nor a folder with config.json and weights; for weights of "
            f"timm say so with {argument('encoder.kind', 'timm')}"
        )
    if (carried := carried_folder(source)) is not None:
        return carried / "config.json"

    def cached(*, local_files_only: bool) -> str | None:
        try:
            return cached_file(
                source,
                "config.json",
                local_files_only=local_files_only,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
        except (OSError, ValueError) as error:
            raise WeightsError(f"no encoder {source}: {hub_problem(error, source)}") from None

    if here := cached(local_files_only=True):
        return Path(here)
    with hub_asked_once() as silent:
        if fetched := cached(local_files_only=False):
            return Path(fetched)
    nor_there = f"nor in the hub's cache, and {silent}" if silent else "nor in the hub's cache or on the hub"
    raise WeightsError(
        f"no encoder {source}: no such file or folder here, {nor_there}. Fetch it where there is a network "
        f"(`hf download {source} --local-dir DIR`) and give DIR"
    )
