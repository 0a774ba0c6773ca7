"""Keys of data that are read from files, and the refusal of them for data that are not, such as the bundled emoji."""

from collections.abc import Mapping, Sequence
from typing import Any

from unirae.app.config.schema.check import show
from unirae.core.errors import ConfigError

FILE_KEYS = ("data_dir", "labels", "caption_column")
"""Keys of a data set that only count where its source has them, too."""
_CHOICES = ("image_folder", "hf", "tar_shards")


def check_file_keys(data: Mapping[str, Any], *, key: str = "data") -> None:
    """Refuse a folder, no labels, or a column of captions of data that are not read from files.

    Args:
        data: the resolved configuration of one data set, perhaps one of a mix.
        key: its own.

    Raises:
        ConfigError: If one of :data:`FILE_KEYS` is given and the source lacks it.
    """
    for name in FILE_KEYS:
        if not _is_given(data, name) or name in data["source"]:
            continue
        is_entry = key != "data"
        what = data["data"] if is_entry else f"this data ({data['source']['_target_']})"
        of_all = "; data.labels=false takes the images of all sources without classes"
        raise ConfigError(
            f"{key}.{name}={show(data[name])}: {what} is not read from a folder; {_choose(': ' if is_entry else '=')}"
            f"{of_all if is_entry and name == 'labels' else ''}"
        )


def check_some_source_reads(of_all: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a key that stands beside the entries of a mix, and that the source of none of them reads.

    Raises:
        ConfigError: If one of :data:`FILE_KEYS` is such a key.
    """
    for name in FILE_KEYS:
        if entries and _is_given(of_all, name) and not any(name in entry["source"] for entry in entries):
            names = ", ".join(entry["name"] for entry in entries)
            raise ConfigError(
                f"data.{name}={show(of_all[name])}: none of the sources ({names}) is read from a folder; "
                f"{_choose(': ')}"
            )


def _is_given(data: Mapping[str, Any], name: str) -> bool:
    """Whether a key is set to something else than what it is for all data; checkpoints of before may lack it."""
    return name in data and data[name] is not (True if name == "labels" else None)


def _choose(sign: str) -> str:
    """What to choose instead, as on the command line (``=``) or in an entry of a mix (``: ``)."""
    *some, last = (f"data{sign}{choice}" for choice in _CHOICES)
    return f"choose {', '.join(some)} or {last}"
