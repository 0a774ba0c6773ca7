"""A composed configuration against the table: every key known, every value of its kind."""

from collections.abc import Collection, Iterator
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from unirae.app.config.schema.kinds import Keys, Mismatch, describe, is_text, read
from unirae.app.config.schema.names import meant, nearest_keys
from unirae.app.config.schema.table import ROOTS
from unirae.core.differences import flat
from unirae.core.errors import ConfigError

Problems = list[tuple[str, Any, str]]
"""Problems, each as (dotted key, value, fault); the fault is empty where no class has such a key."""


def check(config: dict[str, Any], *, experiment: str = "", typed: Collection[str] = ()) -> dict[str, Any]:
    """The configuration with every value as its kind: ``off`` as false, ``1e3`` as a whole number.

    A value with an interpolation that is not resolved yet is not looked at.

    Args:
        config: the composed configuration, resolved or not.
        experiment: the experiment that has set the keys that are not ``typed``, for errors.
        typed: the keys of the command line.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is not of its key's kind. One line names all of them.
    """
    problems: Problems = []
    found = _read_node(config, Union[ROOTS], "", problems)  # noqa: UP007 - of a tuple
    if problems:
        keys = list(_keys(config, Union[ROOTS]))  # noqa: UP007
        raise ConfigError(
            "; ".join(
                text or _of_unknown(key, value, keys, _setter(key, experiment, typed))
                for key, value, text in problems
            )
        )
    return found


def problems_of(config: dict[str, Any]) -> list[tuple[str, Any]]:
    """The keys and values that :func:`check` refuses."""
    problems: Problems = []
    _read_node(config, Union[ROOTS], "", problems)  # noqa: UP007
    return [(key, value) for key, value, _ in problems]


def kinds_of(key: str) -> list[Any]:
    """The kinds that a dotted key has in the configurations that have the key; empty for an unknown key."""
    nodes: list[Any] = list(ROOTS)
    *above, name = key.split(".")
    for part in above:
        nodes = [cls for node in nodes for cls in _classes(_hints(node).get(part)) if isinstance(cls, type)]
    return [hints[name] for node in nodes if name in (hints := _hints(node))]


def takes_text(key: str) -> bool:
    """True where a key's value is to be taken as it stands: a path, a name, a choice."""
    kinds = kinds_of(key)
    return bool(kinds) and all(not _classes(kind) and is_text(kind) for kind in kinds)


def show(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list | tuple):
        return f"[{','.join(show(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {show(item)}' for key, item in value.items())}}}"
    return str(value)


def _read_node(value: Any, hint: Any, key: str, problems: Problems) -> Any:
    """Read the value below ``key``; its faults are added to ``problems``."""
    if _is_open(value):
        return value
    classes = _classes(hint)
    if (of_items := _item_class(hint)) and isinstance(value, list):
        return [_read_node(item, of_items, f"{key}[{i}]", problems) for i, item in enumerate(value)]
    if not classes:
        try:
            return read(value, hint)
        except Mismatch:
            problems.append((key, value, f"{key}={show(value)}: give {describe(hint)}"))
            return value
    cls = _class_of(value, classes, key, problems)
    if cls is None:
        return value
    hints, prefix = _hints(cls), f"{key}." if key else ""
    optional = {field.name for field in fields(cls) if field.default is not MISSING}
    for name in hints:
        if name not in value and name not in optional:
            wanted = "keys with values" if _classes(hints[name]) else describe(hints[name])
            problems.append((f"{prefix}{name}", None, f"{prefix}{name} is missing: give {wanted}"))
    found = {}
    for name, item in value.items():
        if name in hints:
            found[name] = _read_node(item, hints[name], f"{prefix}{name}", problems)
        else:
            found[name] = item
            if not getattr(cls, "FREE_FORM", False):
                problems += [(unknown, leaf, "") for unknown, leaf in flat({f"{prefix}{name}": item}).items()]
    return found


def _class_of(value: Any, classes: tuple[type, ...], key: str, problems: Problems) -> type | None:
    if not isinstance(value, dict):
        group = f" To choose a file of a group: {key.replace('.', '/')}=NAME" if value is not None else ""
        below = [name for name in _hints(classes[0]) if not name.startswith("_")][:3]
        single = f"give single keys below it ({', '.join(below)}, …), as in {key}.{below[0]}=VALUE"
        text = f"{key}={show(value)}: {single}.{group}"
        problems.append((key, value, text))
        return None
    if len(classes) == 1:
        return classes[0]
    path = _mark(classes[0])[0]
    choices = {choice: cls for cls in classes for choice in _mark(cls)[1]}
    chosen: Any = value
    for name in path.split("."):
        chosen = chosen.get(name) if isinstance(chosen, dict) else None
    if chosen is None and (usual := [cls for cls in classes if _may_lack(cls, path)]):
        return usual[0]
    if show(chosen) not in choices:
        dotted = f"{key}.{path}".removeprefix(".")
        problems.append((dotted, chosen, f"{dotted}={show(chosen)}: give {', '.join(choices)}"))
    return choices.get(show(chosen))


def _may_lack(cls: type, name: str) -> bool:
    """True where a class has a default for a key that tells it from others: AdamW for an optimizer's ``kind``."""
    return any(field.name == name and field.default is not MISSING for field in fields(cls))


def _keys(value: Any, hint: Any, key: str = "") -> Iterator[str]:
    """The dotted keys that this configuration may have: nodes and values, those left out too."""
    cls = _class_of(value, _classes(hint), key, []) if _classes(hint) else None
    if cls is None:
        return
    for name, inner in _hints(cls).items():
        dotted = f"{key}.{name}" if key else name
        yield dotted
        if name in value:
            yield from _keys(value[name], inner, dotted)
            items = value[name] if _item_class(inner) and isinstance(value[name], list) else []
            for i, item in enumerate(items):
                yield from _keys(item, _item_class(inner), f"{dotted}[{i}]")


def _of_unknown(key: str, value: Any, keys: list[str], who: str) -> str:
    said = f"{who} sets {key}, which nothing reads" if who else f"{key}={show(value)}: there is no such key"
    if found := meant(nearest_keys(key, keys)):
        return f"{said}; {found}"
    node = key.rpartition(".")[0]
    while node and node not in keys:
        node = node.rpartition(".")[0]
    prefix = f"{node}." if node else ""
    names = [one.removeprefix(prefix) for one in keys if one.startswith(prefix)]
    return f"{said}; {node or 'the configuration'} has {', '.join(n for n in names if '.' not in n)}"


def _setter(key: str, experiment: str, typed: Collection[str]) -> str:
    by_hand = any(f"{key}.".startswith((f"{one}.", f"{one}[")) for one in typed)
    return "" if by_hand else experiment


def _is_open(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _classes(hint: Any) -> tuple[type, ...]:
    """The classes of a node's keys; none for a value, or for a list of nodes."""
    if get_origin(hint) is list:
        return ()
    parts = get_args(hint) or (hint,)
    return parts if all(isinstance(part, type) and issubclass(part, Keys) for part in parts) else ()


def _item_class(hint: Any) -> type | None:
    """The class of the keys of each node in a list of nodes; None where no such list is meant."""
    inner = get_args(hint)[0] if get_origin(hint) is list else None
    return inner if isinstance(inner, type) and issubclass(inner, Keys) else None


def _mark(cls: type) -> tuple[str, list[str]]:
    """The key, and its values, that tell a class from the others of its node; of data and the root a key below it."""
    hints = _hints(cls)
    for name in ("_target_", "kind", "stage"):
        if name in hints:
            return name, list(get_args(hints[name]))
    name = "model" if "model" in hints else "source"
    inner = [_mark(one) for one in _classes(hints[name])]
    return f"{name}.{inner[0][0]}", [choice for _, choices in inner for choice in choices]


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """The kinds of a class's keys by their names."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}
