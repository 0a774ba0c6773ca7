"""Records of settings, as nested plain values, and their differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unirae.core.names import count_of


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


def flat(record: dict[str, Any], above: str = "") -> dict[str, Any]:
    """The values of a nested record by their dotted names; an empty dictionary is a value."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        inner = isinstance(value, dict) and value
        found |= flat(value, f"{above}{key}.") if inner else {f"{above}{key}": value}
    return found


def different_classes(there: Sequence[str], here: Sequence[str]) -> str:
    """Two lists of class names, shortened, and their differences.

    Examples: ``a, b, c there, c, a, b here (class 0 is a there and c here)``.
    """

    def listed(names: Sequence[str]) -> str:
        shown = ", ".join(shortened(name, 24) for name in names[:6]) or "none"
        return f"{shown} … ({len(names)} in all)" if len(names) > 6 else shown

    reasons = []
    if len(there) != len(here):
        reasons.append(f"{count_of(len(there), 'class', 'classes')} there, {len(here)} here")
    pairs = enumerate(zip(there, here, strict=False))  # their lengths may differ, which is said above
    if first := next(((i, a, b) for i, (a, b) in pairs if a != b), None):
        reasons.append(f"class {first[0]} is {shortened(first[1])} there and {shortened(first[2])} here")
    return f"{listed(there)} there, {listed(here)} here ({'; '.join(reasons)})"


def shortened(value: Any, length: int = 40) -> str:
    """A value on one line of at most ``length`` characters."""
    text = str(value)
    return text if len(text) <= length else f"{text[: length - 3]}…"
