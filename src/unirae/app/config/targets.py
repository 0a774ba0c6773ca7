"""The folder of the configuration, and objects from its ``_target_`` keys."""

import importlib
from pathlib import Path
from typing import Any

from unirae.core.errors import ConfigError


def config_dir() -> Path:
    """The folder of YAML groups: inside the installed wheel, or beside ``src`` in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent.parent / "configs"


def experiments() -> list[str]:
    """The names that ``experiment=`` takes."""
    return sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))


def data_names() -> list[str]:
    """The names that ``--data`` takes: those of ``configs/data`` but for mixes, which only a run trains on."""
    names = sorted(path.stem for path in (config_dir() / "data").glob("*.yaml"))
    return [name for name in names if not name.startswith("_") and name not in ("default", "mix")]


def build(node: dict[str, Any], **parts: Any) -> Any:
    """Call a node's ``_target_`` with its other keys and ``parts``; a part that the node sets too is an error.

    Nested nodes are not built: whoever owns them knows what else they need.

    Raises:
        ConfigError: If the target does not exist, or does not take these arguments.
    """
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    clash = sorted(arguments.keys() & parts.keys())
    if clash:
        raise ConfigError(f"{node['_target_']}: {', '.join(clash)} is derived and cannot be set")
    target = locate(node["_target_"])
    try:
        return target(**arguments, **parts)
    except TypeError as error:
        if "argument" in str(error) and target.__name__ in str(error):
            raise ConfigError(f"{node['_target_']}: {error}") from None
        raise


def locate(target: str) -> Any:
    """The class or function of this package that a dotted path names.

    Checkpoints carry configurations, so a target is data from elsewhere: only what this package itself defines
    is called.

    Raises:
        ConfigError: If there is no such module or name, or if this package does not define it.
    """
    module_name, _, name = target.rpartition(".")
    if not module_name.startswith("unirae."):
        raise ConfigError(f"_target_: {target} is refused: only targets of unirae are called")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"_target_: {target} cannot be found ({error})") from None
    if not str(getattr(found, "__module__", "")).startswith("unirae."):
        raise ConfigError(f"_target_: {target} is refused: it is not defined by unirae")
    return found
