"""The words of a command line, as Hydra is to read them: checked for their form, with paths and names quoted.

Hydra parses a value by a grammar of its own, in which ``epoch=0.ckpt`` or ``a (1)`` are mistakes and ``2024_01`` is a
number. Where the table of keys says that text is meant, the value is taken as it stands. Whether the key exists, and
whether the value is of its kind, is checked after composition, for experiment files and the command line alike; so keys
go to Hydra with ``++``, which lets every key pass.
"""

import re
from collections.abc import Sequence

from unirae.app.config.schema.check import kinds_of, takes_text
from unirae.app.config.schema.names import alternatives, meant, nearest
from unirae.app.config.targets import config_dir
from unirae.core.errors import ConfigError

_OVERRIDE = re.compile(r"(?P<sign>\+\+|\+|~)?(?P<key>[^=\s]+?)(?:=(?P<value>.*))?", re.DOTALL)
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_NOT_OF_HYDRA = re.compile(r"[#;&<>^`!]")
"""Characters that stand in no value of Hydra's grammar."""
_SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(")


def as_hydra_reads(words: Sequence[str], *, multirun: bool = False) -> list[str]:
    """The overrides of a command line for Hydra; what is already in that form stays as it is.

    Args:
        words: ``key=value``, ``group=choice``, ``+key=value``, ``~key``.
        multirun: let a value be a list of values to sweep over, with commas.

    Raises:
        ConfigError: If a word is no override, or names a group or a choice that does not exist.
    """
    return [_override(word, multirun=multirun) for word in words]


def groups() -> list[str]:
    """The folders of ``configs/``, such as ``model/encoder``."""
    root = config_dir()
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir())


def choices(group: str) -> list[str]:
    """The files of a group; ``data/default`` and names like ``_base`` are what the others are made of."""
    names = sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
    return [name for name in names if not name.startswith("_") and (group != "data" or name != "default")]


def key_of(override: str) -> str:
    """The key or group of an override, without its sign and package."""
    return override.lstrip("+~").split("=", 1)[0].split("@")[0]


def _override(word: str, *, multirun: bool) -> str:
    matched = _OVERRIDE.fullmatch(word)
    if matched is None or (matched["value"] is None and matched["sign"] != "~"):
        raise ConfigError(_not_an_override(word))
    sign, key, value = matched["sign"] or "", matched["key"], matched["value"]
    if re.search(r"[^\w./@$-]", key):
        raise ConfigError(_not_an_override(word))
    group = key.split("@")[0]
    if re.match(r"hydra([./@]|$)", key):
        return word
    if (config_dir() / group).is_dir() or "/" in group or "@" in key:
        return _group_override(word, group, value, multirun=multirun)
    if sign == "~" or value is None:
        return word
    if value.strip() == "{}":
        raise ConfigError(f"{word}: sets nothing; give single keys below it, as in {key}.KEY=VALUE")
    # what Hydra cannot read is left to the table, which says what is meant
    text = takes_text(key) or _NOT_OF_HYDRA.search(_QUOTED.sub("", value))
    return f"++{key}={_quoted(value, multirun=multirun) if text else value}"


def _group_override(word: str, group: str, value: str | None, *, multirun: bool) -> str:
    known = groups()
    if group not in known:
        raise ConfigError(
            f"{word}: there is no group {group}; {meant(nearest(group, known)) or 'groups: ' + ', '.join(known)}"
        )
    names = choices(group)
    if value is not None and value.strip() in ("null", "", "{}"):
        raise ConfigError(f"{word}: give a choice of {group}, or leave the word out: {', '.join(names)}")
    if value is None or _SWEEP.match(value) or value[:1] in "[{'\"":
        return word
    for name in value.split(",") if multirun else [value]:
        if name.strip() not in names:
            found = meant(nearest(name, names))
            raise ConfigError(
                f"{group}={name}: there is no such choice; {found + ' ' if found else ''}choices: {', '.join(names)}"
            )
    return word


def _quoted(value: str, *, multirun: bool) -> str:
    """Quote text for Hydra's parser, which takes quoted text as it stands; quotes of the user's own stay."""
    if value in ("", "null") or _QUOTED.fullmatch(value):
        return value
    if multirun and (_SWEEP.match(value) or ("," in value and re.search(r"['\"\[{]", value))):
        return value
    if multirun and "," in value:
        return ",".join(_quoted(part.strip(), multirun=False) for part in value.split(","))
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"'{escaped}'"


def _not_an_override(word: str) -> str:
    name, _, rest = word.lstrip("-").partition("=")
    if word.startswith("-"):
        return f"{word}: options of the configuration have no dashes: {name}={rest or 'VALUE'}"
    if word.startswith("="):
        return f"{word}: write key=value without a space"
    if word in choices("experiment"):
        return f"{word}: write experiment={word}"
    if matched := re.fullmatch(r"([\w./@]+)\s*(?::|\s=)\s*=?\s*(.*)", word, re.DOTALL):
        return f"{word}: write {matched[1]}={matched[2] or 'VALUE'}"
    if (config_dir() / word).is_dir() or kinds_of(word):
        return f"{word}: write {word}=VALUE, without spaces"
    found = nearest(word, choices("experiment"))
    hint = f"; did you mean {alternatives([f'experiment={one}' for one in found])}?" if found else ""
    return f"{word!r} is no override: write key=value, as in seed=1 or experiment=rae_tiny{hint}"
