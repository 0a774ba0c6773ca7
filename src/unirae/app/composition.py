"""Composing the configuration with Hydra, and refusing keys that nothing reads."""

from typing import Any

from unirae.app.config import config_dir
from unirae.core.errors import ConfigError

_NOT_MODELS_OF_KEYS = ("experiment", "debug", "hparams_search")
_FREE_FORM = ("architecture",)
"""Nodes whose keys belong to another library, which checks them."""


def compose(overrides: list[str]) -> dict[str, Any]:
    """The resolved configuration of a command line, as plain values: ``compose(["experiment=rae_tiny"])``.

    Raises:
        ConfigError: an unknown experiment or key, or a value of the wrong form.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import open_dict
    from omegaconf.errors import OmegaConfBaseException

    try:
        with hydra.initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
            cfg = hydra.compose("train", overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            choices = dict(cfg.hydra.runtime.choices)
            with open_dict(cfg):
                del cfg["hydra"]
            return finish(cfg, choices=choices, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        # Hydra's messages go over many lines and end in its search path; the cause and the choices come first.
        message = " ".join(str(error).split("Config search path")[0].split())
        raise ConfigError(f"{' '.join(overrides) or 'train'}: {message}") from None


def finish(cfg: Any, *, choices: dict[str, str | None], overrides: list[str]) -> dict[str, Any]:
    """Check the keys of what Hydra composed, resolve it, and return plain values.

    An experiment file is merged into the configuration, so Hydra would take a misspelt key in it for a new one.
    What the groups define without the experiment is the list of keys that exist; ``+node.key=value`` on the command
    line adds an argument to a node with ``_target_``, whose constructor says if it has none of that name.

    The result also lists under ``changed_keys`` what the experiment and the command line set to other values than the
    groups: so whoever derives a value can tell a default from somebody's wish.

    Args:
        cfg: the composed ``DictConfig``, without its ``hydra`` node.
        choices: Hydra's group choices.
        overrides: of the command line.

    Raises:
        ConfigError: a key that no group defines.
    """
    import hydra
    from omegaconf import OmegaConf

    groups = [
        f"{name}={choice}" for name, choice in choices.items() if _defines_keys(name) and choice is not None
    ]
    # A chosen group may pull in sub-groups that the bare configuration lacks; those come with its own defaults.
    base = hydra.compose("train", ["~experiment", *groups])
    known = OmegaConf.to_container(base, resolve=False)
    used = OmegaConf.to_container(cfg, resolve=False)
    added = [o.lstrip("+").split("=", 1)[0] for o in overrides if o.startswith("+")]
    unknown = [
        key for key in _unknown_keys(used, known) if not (_is_added(key, added) and _is_argument(key, used))
    ]
    if by_hand := [key for key in unknown if _is_added(key, added)]:
        raise ConfigError(
            f"+ adds {', '.join(by_hand)}, which nothing reads: it adds arguments to nodes with _target_ alone. Is it "
            "misspelt? To see the keys: python src/train.py experiment=NAME --cfg job"
        )
    if unknown:
        raise ConfigError(
            f"experiment={choices.get('experiment')} sets {', '.join(unknown)}, which nothing reads; is it misspelt? "
            "To see the keys: python src/train.py experiment=NAME --cfg job"
        )
    resolved: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    resolved["changed_keys"] = [*_changed_keys(used, known), *_keys_of_chosen_groups(used, overrides)]
    return resolved


def _defines_keys(group: str) -> bool:
    return group.split("@")[0] not in _NOT_MODELS_OF_KEYS and not group.startswith("hydra")


def _unknown_keys(used: Any, known: Any, prefix: str = "") -> list[str]:
    """Dotted names of keys of ``used`` that ``known`` lacks."""
    if not isinstance(used, dict) or not isinstance(known, dict):
        return []
    found: list[str] = []
    for key, value in used.items():
        if key not in known:
            found.append(f"{prefix}{key}")
        elif key not in _FREE_FORM:
            found += _unknown_keys(value, known[key], f"{prefix}{key}.")
    return found


def _is_added(key: str, added: list[str]) -> bool:
    """Whether the command line adds it, something in it, or a node that it is in."""
    return any(f"{one}.".startswith(f"{key}.") or key.startswith(f"{one}.") for one in added)


def _is_argument(key: str, used: Any) -> bool:
    """Whether it lies in a node that is built by a constructor."""
    return "_target_" in _at(used, key.rpartition(".")[0])


def _changed_keys(used: Any, known: Any, prefix: str = "") -> list[str]:
    """Dotted names of the values of ``used`` that are not those of ``known``."""
    if not isinstance(used, dict) or not isinstance(known, dict):
        return [] if used == known else [prefix.removesuffix(".")]
    return [name for key in used for name in _changed_keys(used[key], known.get(key), f"{prefix}{key}.")]


def _keys_of_chosen_groups(used: Any, overrides: list[str]) -> list[str]:
    """Dotted names below each package that the command line fills with a group: ``group@package=choice``."""
    packages = [o.split("=", 1)[0].split("@", 1)[1] for o in overrides if "@" in o.split("=", 1)[0]]
    return [f"{package}.{key}" for package in packages for key in _at(used, package)]


def _at(node: Any, dotted: str) -> Any:
    for part in dotted.split(".") if dotted else ():
        node = node[part]
    return node
