"""The configuration of a mix of data sets: entries of ``data.sources`` are choices of the group ``data`` with keys.

Composition reads the file of each choice into its entry (:func:`read_choices`), so that the resolved configuration, and
with it every checkpoint, holds all that a source needs, and the table of keys checks the entries like any other node.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from unirae.app.config.file_data import FILE_KEYS, check_file_keys, check_some_source_reads
from unirae.app.config.overrides import choices
from unirae.app.config.schema.check import show
from unirae.app.config.schema.data import OfImages, OfRun
from unirae.app.config.schema.names import meant, nearest
from unirae.core.differences import flat
from unirae.core.errors import ConfigError

MIX = "unirae.data.mix.MixedSource"
"""The ``data.source._target_`` of a mix."""
_SAME_PICTURES = ("labels", "verify_contents", "val_fraction", "caption_column")
"""Keys of a source in which two entries of the same data may differ."""
FORM = "[{data: emoji, weight: 1}, {data: image_folder, data_dir: /path/to/images, weight: 3}]"
"""What ``data.sources`` looks like."""
_OF_RUN = {field.name for field in fields(OfRun)}
_OF_ALL = tuple(key for key in OfImages.__annotations__ if key not in ("source", "data_dir"))
"""Keys of one data set that a mix may set for all of its sources."""
_OWN = ("data", "name", "weight")
"""Keys that an entry has beside those of its data set."""


def is_mix(data: Mapping[str, Any]) -> bool:
    """True where a resolved data configuration is of a mix."""
    return (data.get("source") or {}).get("_target_") == MIX


def read_choices(cfg: Any) -> None:
    """Complete each entry of a mix by the file of its choice, in place; other data are left as they are.

    A transform, or another key of images, that stands beside the entries, set by the experiment or the command line,
    goes into every entry that does not set it, and whose source reads it.

    Args:
        cfg: the composed ``DictConfig``, not resolved yet; Hydra is initialised.

    Raises:
        ConfigError: If ``data.sources`` is no list of entries, an entry names no choice, an unknown one or a mix, or
            no source reads a key that stands beside the entries.
    """
    from omegaconf import OmegaConf, open_dict

    data: Any = OmegaConf.to_container(cfg.data, resolve=False)
    if not isinstance(data, dict) or not isinstance(data.get("source"), dict):
        return
    if not is_mix(data):
        if "sources" in data:
            raise ConfigError(
                f"data.sources={show(data['sources'])}: several data sets are chosen by data=mix"
            )
        return
    entries = data.get("sources")
    if not isinstance(entries, list):
        raise ConfigError(f"data.sources={show(entries)}: give a list of entries, such as {FORM}")
    of_all = {key: data[key] for key in _OF_ALL if key in data}
    names: list[str] = []
    completed = []
    for number, entry in enumerate(entries):
        choice = _choice_of(entry, f"data.sources[{number}]")
        names.append(_name_beside(choice, names))
        completed.append({"name": names[-1], "weight": 1, **_completed(entry, choice, of_all)})
    check_some_source_reads(of_all, completed)
    with open_dict(cfg):
        cfg.data.sources = completed
        for key in of_all:
            del cfg.data[key]


def _choice_of(entry: Any, key: str) -> str:
    """The choice of an entry.

    Raises:
        ConfigError: If there is none, or one that a mix cannot have.
    """
    known = [name for name in choices("data") if name != "mix"]
    if not isinstance(entry, dict):
        raise ConfigError(
            f"{key}={show(entry)}: give an entry with keys, such as {{data: {known[0]}, weight: 1}}"
        )
    choice = entry.get("data")
    if choice is None:
        raise ConfigError(
            f"{key}={show(entry)} does not say which data it means: add data: NAME, one of {', '.join(known)}"
        )
    if choice == "mix":
        raise ConfigError(f"{key}.data=mix: a mix holds no other mix; list that one's sources here")
    if choice not in known:
        found = meant(nearest(str(choice), known))
        raise ConfigError(
            f"{key}.data={show(choice)}: there is no such choice; {found + ' ' if found else ''}choices: "
            f"{', '.join(known)}"
        )
    return choice


def _name_beside(choice: str, names: list[str]) -> str:
    """The default name of an entry: its choice, or ``CHOICE_2``, ``CHOICE_3`` behind others of that choice."""
    numbers = (name for name in (choice, *(f"{choice}_{n}" for n in range(2, len(names) + 2))))
    return next(name for name in numbers if name not in names)


def _completed(entry: dict[Any, Any], choice: str, of_all: dict[str, Any]) -> dict[str, Any]:
    """The keys of a choice's file that are a source's own, over them those for all sources, over them the entry's.

    The entry's may be dotted or nested.
    """
    import hydra
    from omegaconf import OmegaConf, open_dict

    own = hydra.compose(f"data/{choice}").data
    with open_dict(own):
        for key in _OF_RUN:
            del own[key]
        own["verify_contents"] = "${data.verify_contents}"
        own["labels"] = "${data.labels}" if "labels" in own.source else True
        given = flat({str(key): value for key, value in entry.items()})
        for_this = {key: value for key, value in of_all.items() if key not in FILE_KEYS or key in own.source}
        if any(key.partition(".")[0] == "caption_column" for key in given):
            for_this.pop("caption_column", None)  # weights of other columns are no part of the entry's
        for key, value in [*flat(for_this).items(), *given.items()]:
            OmegaConf.update(own, key, value, merge=True, force_add=True)
    found: Any = OmegaConf.to_container(own, resolve=False)
    return found


def check_mix(data: Mapping[str, Any]) -> None:
    """Refuse a mix whose entries do not go together; other data pass.

    Args:
        data: the resolved configuration below ``data``, of the table's kinds.

    Raises:
        ConfigError: If two entries are the same data or have the same name, if a name cannot be a folder's, if an
            entry has a key that its source does not read, or if ``data.scored`` names no entry.
    """
    if not is_mix(data):
        return
    seen: dict[str, int] = {}
    names: dict[str, str] = {}
    for number, entry in enumerate(data["sources"]):
        key, name = f"data.sources[{number}]", entry["name"]
        check_file_keys(entry, key=key)
        if not re.fullmatch(r"\w[\w.-]*", name) or name.isdecimal():
            raise ConfigError(f"{key}.name={name}: give letters, digits, _, - and ., and not digits alone")
        if (other := names.setdefault(name.casefold(), key)) != key:
            raise ConfigError(f"{key}.name={name} is the name of {other}, too; give each source another name")
        if (first := seen.setdefault(_identity(entry), number)) != number:
            both = data["sources"][first]["weight"] + entry["weight"]
            raise ConfigError(
                f"{key} is the same data as data.sources[{first}] ({entry['data']}): leave it out, and give the other "
                f"the weight of both, {both:g}"
            )
    if data["sources"]:
        scored_number(data)


def _identity(entry: Mapping[str, Any]) -> str:
    """What decides which pictures a source has: two entries that agree in it are the same data."""
    source = {key: value for key, value in entry["source"].items() if key not in _SAME_PICTURES}
    if (folder := source.get("data_dir")) is not None:
        expanded = os.path.expanduser(folder)
        source["data_dir"] = os.path.realpath(expanded) if os.path.exists(expanded) else folder
    return show(dict(sorted(source.items())))


def scored_number(data: Mapping[str, Any]) -> int:
    """The number of the source of a mix that validation, statistics and scores are of.

    Raises:
        ConfigError: If ``data.scored`` is neither a source's number nor its name, or if there are no sources.
    """
    names, scored = [entry["name"] for entry in data["sources"]], data["scored"]
    if not names:
        raise ConfigError(f"data.sources is empty: give the data sets to mix, such as 'data.sources={FORM}'")
    if scored in names:
        return names.index(scored)
    if isinstance(scored, int) and scored < len(names):
        return scored
    listed = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
    found = meant(nearest(str(scored), names))
    raise ConfigError(f"data.scored={scored} is none of the sources; {found or f'give one of {listed}'}")


def source_config(data: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The configuration of one source of a mix, as of a run on that data set alone."""
    entry = {key: value for key, value in data["sources"][number].items() if key not in _OWN}
    return {**{key: data[key] for key in _OF_RUN}, **entry}


def scored_config(data: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the data that validation, statistics and scores are of: of a mix the one source."""
    return source_config(data, scored_number(data)) if is_mix(data) else data


def names_of_entry(number: int) -> dict[str, str]:
    """What a source's arguments are called in messages (:func:`~unirae.core.arguments.called`)."""
    key = f"data.sources[{number}]"
    return {
        "source.": f"{key}.source.",
        "source.data_dir": f"{key}.data_dir",
        "source.labels": f"{key}.labels",
        "source.caption_column": f"{key}.caption_column",
        "source.missing_captions": f"{key}.missing_captions",
        "transform": f"{key}.stage2_transform._target_",
    }


def data_folders(data: Mapping[str, Any]) -> dict[str, str | None]:
    """The folder that each data set is read from, by its key; None where it is read from none."""
    if not is_mix(data):
        return {"data.data_dir": data["data_dir"]}
    return {
        f"data.sources[{number}].data_dir": entry["data_dir"] for number, entry in enumerate(data["sources"])
    }
