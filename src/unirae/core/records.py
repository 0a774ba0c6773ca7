"""Records of settings, as nested plain values: in what two of them differ."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A setting of two records.

    Attributes:
        name: with the names of what it stands in, joined by dots.
    """

    name: str
    first: Any
    second: Any


def differences(first: Any, second: Any, *, missing: Any = None, name: str = "") -> list[Difference]:
    """Every setting that two records differ in, in the order of the first.

    Args:
        missing: what a setting counts as where a record lacks it.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [*first, *(key for key in second if key not in first)]
        return [
            found
            for key in keys
            for found in differences(
                first.get(key, missing),
                second.get(key, missing),
                missing=missing,
                name=f"{name}.{key}".removeprefix("."),
            )
        ]
    return [] if first == second else [Difference(name=name, first=first, second=second)]


def shortened(value: Any, length: int = 40) -> str:
    """A value on one line of at most ``length`` characters."""
    text = str(value)
    return text if len(text) <= length else f"{text[: length - 3]}…"
