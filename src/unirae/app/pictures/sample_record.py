"""The record of a folder of samples, and whether its prompts are the first ones of a list."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app.pictures.layouts import Dpg
from unirae.core.differences import shortened
from unirae.core.errors import ConfigError, UserError

if TYPE_CHECKING:
    from unirae.app.inputs.prompt_list import PromptList


def read_record(folder: Path) -> dict[str, Any] | None:
    """The ``settings.json`` of a folder, of whichever layout it is; None where there is none.

    Raises:
        ConfigError: If the file is not a record of samples.
    """
    from unirae.core.io import read_json

    own, within = folder / "settings.json", folder / Dpg.records / "settings.json"
    file = own if own.is_file() else within
    if not file.is_file():
        return None
    found = read_json(file)
    parts = {"settings": dict, "num_samples": int, "network_evaluations": list}
    if not isinstance(found, dict) or not all(isinstance(found.get(k), kind) for k, kind in parts.items()):
        raise ConfigError(
            f"--output_dir {folder}: {file} was not written by sample_dit.py; choose another folder"
        )
    # a folder of that name may hold other samples, which have nothing to do with those of the folder around it
    return found if file == own or found["settings"].get("layout") == Dpg.name else None


def check_prompts(folder: Path, records: Path, recorded: Any, prompts: "PromptList") -> None:
    """Refuse prompts that do not begin with those of a folder.

    Args:
        records: the folder of ``prompts.jsonl``.
        recorded: the number and the hash of the folder's prompts, as its ``settings.json`` has them.

    Raises:
        ConfigError: If there are fewer, or one of the first ones is another; the message says which.
    """
    recorded = recorded if isinstance(recorded, dict) else {}
    number, sha256 = recorded.get("number"), recorded.get("sha256")
    if not isinstance(number, int) or not isinstance(sha256, str):
        raise ConfigError(
            f"--output_dir {folder}: its settings.json tells of no prompts; choose another folder"
        )
    now = len(prompts.prompts)
    if number > now:
        raise ConfigError(
            f"--output_dir {folder} was made with {number} prompts; it can grow but not shrink to {now}"
        )
    if prompts.sha256(number) != sha256:
        raise ConfigError(
            f"--output_dir {folder} was made with other prompts{_first_difference(records, number, prompts)}. Choose "
            "another folder, or give its prompts and add new ones behind them"
        )


def _first_difference(records: Path, number: int, prompts: "PromptList") -> str:
    """Which prompt differs and how; "" where the file of the prompts is not there or damaged."""
    from unirae.app.inputs.prompts import read_prompts

    try:
        there = read_prompts(records / "prompts.jsonl")[:number]
    except UserError:
        return ""
    pairs = enumerate(zip(there, prompts.prompts, strict=False), start=1)  # a list may grow
    for n, (before, now) in pairs:
        first, second = before.record(), now.record()
        keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
        if keys:
            one, other = (shortened(repr(record.get(keys[0])), 60) for record in (first, second))
            return f": {keys[0]} of prompt {n} is {one} there, {other} now"
    return ""
