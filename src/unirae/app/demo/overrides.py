"""The demo's overrides, sorted by the training parts that they are for."""

import re
from collections.abc import Sequence
from typing import Any

from unirae.app.config.composition import compose, has_key
from unirae.app.demo.parts import PARTS
from unirae.core.errors import ConfigError


def distribute(overrides: Sequence[str]) -> dict[str, list[str]]:
    """The overrides of each part: those that name it (``dit:key=value``), and those whose key it has.

    An override that adds a key (``+node.key=value``) goes to the parts that have the node.

    Raises:
        ConfigError: If an override is not of this form, or none of the parts that it is for has its key.
    """
    given: dict[str, list[str]] = {part: [] for part in PARTS}
    if not overrides:
        return given
    configs = _configs()
    for override in overrides:
        part, key, text = _parse(override)
        parts = [part] if part else list(PARTS)
        wanted = key.rpartition(".")[0] or key if text.startswith("+") else key
        chosen = [p for p in parts if has_key(configs[PARTS[p]], wanted)]
        if not chosen:
            where = f"the part {part} ({PARTS[part]})" if part else "no part of the demo"
            raise ConfigError(
                f"--override {override}: {where} {'lacks' if part else 'has'} the key {key}; to see the keys: "
                f"python src/train.py experiment={PARTS[part] if part else 'dit_tiny'} --cfg job"
            )
        for p in chosen:
            given[p].append(text)
    return given


def _configs() -> dict[str, dict[str, Any]]:
    return {experiment: compose([f"experiment={experiment}"]) for experiment in dict.fromkeys(PARTS.values())}


def _parse(override: str) -> tuple[str | None, str, str]:
    """An override as (part or None, dotted key, the override as Hydra reads it)."""
    named = re.fullmatch(rf"({'|'.join(PARTS)}):(.*)", override, re.DOTALL)
    part, text = (named[1], named[2]) if named else (None, override)
    if "=" not in text and not text.startswith("~"):
        raise ConfigError(
            f"--override {override}: give key=value, or {'|'.join(PARTS)}:key=value for one part"
        )
    name = text.lstrip("+~").split("=", 1)[0]
    # a group's override names its file's folder, or after "@" where its content goes
    return part, name.split("@")[-1].replace("/", "."), text
