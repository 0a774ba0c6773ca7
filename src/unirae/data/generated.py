"""Folders of generated samples, which are data sets but for the overview that lies beside the images."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

OVERVIEW = "grid.png"
"""The picture of generated samples side by side."""
_RECORD = "settings.json"
_FIRST = {"000000.png", "00000"}
"""The first image, or the folder of the first prompt's images."""


def sampling_record(folder: Path) -> dict[str, Any] | None:
    """The record of how the images of a folder were generated; None where there is none, or another program's."""
    try:
        content = json.loads((folder / _RECORD).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    found = set(content) if isinstance(content, dict) else set()
    return content if {"num_samples", "settings"} <= found and found & {"label_counts", "prompts"} else None


def has_overview(folder: Path, names: Collection[str]) -> bool:
    """Say whether an overview of generated samples is among the files of these names in a folder."""
    return (
        {OVERVIEW, _RECORD} <= set(names)
        and not _FIRST.isdisjoint(names)
        and sampling_record(folder) is not None
    )
