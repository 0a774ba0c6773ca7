"""Composing the configuration with Hydra, and checking it against the table of keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unirae.app.config import config_dir, experiments
from unirae.app.overrides import as_hydra_reads, key_of
from unirae.app.schema.check import check
from unirae.core.errors import ConfigError

_NOT_MODELS_OF_KEYS = ("experiment", "debug", "hparams_search")
_PLUGINS = {"optuna": "hydra-optuna-sweeper", "joblib": "hydra-joblib-launcher"}
"""What a choice of ``hydra/sweeper`` or ``hydra/launcher`` needs."""


@dataclass(frozen=True, kw_only=True)
class Composition:
    """What a command line composes to.

    Attributes:
        config: resolved and checked, as plain values.
        experiment: its name.
        overrides: of the command line, as Hydra has read them.
        multirun: whether a sweep was chosen without ``-m``, as ``hparams_search=optuna`` does.
    """

    config: dict[str, Any]
    experiment: str
    overrides: Sequence[str]
    multirun: bool = False


def compose(words: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration of a command line, as plain values: ``compose(["experiment=rae_tiny"])``.

    Raises:
        ConfigError: If a word is no override, or an experiment, a choice, a key or a value is none.
    """
    return compose_run(words).config


def compose_run(words: Sequence[str]) -> Composition:
    """As :func:`compose`, with what Hydra knows besides.

    Raises:
        ConfigError: As there.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import open_dict
    from omegaconf.errors import OmegaConfBaseException

    overrides = as_hydra_reads(words)
    _check_experiment(overrides)
    try:
        with hydra.initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
            cfg = hydra.compose("train", overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            choices, mode = dict(cfg.hydra.runtime.choices), cfg.hydra.mode
            with open_dict(cfg):
                del cfg["hydra"]
            config = finish(cfg, choices=choices, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, words)) from None
    return Composition(
        config=config,
        experiment=str(choices["experiment"]),
        overrides=overrides,
        multirun=mode is not None and mode.name == "MULTIRUN",
    )


def explain(error: Exception, words: Sequence[str]) -> str:
    """What Hydra refuses, in one line; its own messages end in advice that does not hold here."""
    message = " ".join(str(error).split())
    for choice, package in _PLUGINS.items():
        if f"/{choice}" in message or f"'{choice}'" in message:
            return f"{' '.join(words)}: Hydra's plug-in for {choice} is not installed: pip install {package}"
    for word in words:
        group = key_of(word)
        if f"Could not override '{group}'" in message or f"Could not override '{group}@" in message:
            return f"{word}: this experiment has no {group} there; {_mounts(group)}"
    cause = message.split("Config search path")[0].split(" To append to your")[0].split("See https")[0]
    return f"{' '.join(words) or 'train'}: {cause.strip()}"


def _mounts(group: str) -> str:
    name = group.removeprefix("model/")
    return (
        f"stage 2 has its autoencoder's parts below model.rae ({group}@model.rae.{name}=CHOICE), other stages below "
        "model; to see what there is: python src/train.py experiment=NAME --cfg job"
    )


def _check_experiment(overrides: Sequence[str]) -> None:
    given = [word for word in overrides if key_of(word) == "experiment" and not word.startswith("~")]
    if not given:
        raise ConfigError(f"experiment=NAME is missing; choose one of {', '.join(experiments())}")
    if len(given) > 1:
        raise ConfigError(f"{' '.join(given)}: give one experiment")


def finish(cfg: Any, *, choices: dict[str, str | None], overrides: Sequence[str]) -> dict[str, Any]:
    """Resolve what Hydra composed, and check it against the table of keys; returns plain values.

    The result also lists under ``changed_keys`` what the experiment and the command line set to other values than the
    groups: so whoever derives a value can tell a default from somebody's wish.

    Args:
        cfg: the composed ``DictConfig``, without its ``hydra`` node.
        choices: Hydra's group choices.
        overrides: of the command line, as Hydra has read them.

    Raises:
        ConfigError: If a key or a value is not as the table says.
    """
    import hydra
    from omegaconf import OmegaConf

    used: Any = OmegaConf.to_container(cfg, resolve=False)
    typed = {key_of(override) for override in overrides}
    check(
        used, experiment=f"experiment={choices.get('experiment')}", typed=typed
    )  # names what was set, not what follows
    plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    resolved = check(plain)
    groups = [
        f"{name}={choice}" for name, choice in choices.items() if _defines_keys(name) and choice is not None
    ]
    # A chosen group may pull in sub-groups that the bare configuration lacks; those come with its own defaults.
    base = hydra.compose("train", ["~experiment", *groups])
    known = OmegaConf.to_container(base, resolve=False)
    resolved["changed_keys"] = [*_changed_keys(used, known), *_keys_of_chosen_groups(used, overrides)]
    return resolved


def _defines_keys(group: str) -> bool:
    return group.split("@")[0] not in _NOT_MODELS_OF_KEYS and not group.startswith("hydra")


def _changed_keys(used: Any, known: Any, prefix: str = "") -> list[str]:
    """Dotted names of the values of ``used`` that are not those of ``known``."""
    if not isinstance(used, dict) or not isinstance(known, dict):
        return [] if used == known else [prefix.removesuffix(".")]
    return [name for key in used for name in _changed_keys(used[key], known.get(key), f"{prefix}{key}.")]


def _keys_of_chosen_groups(used: Any, overrides: Sequence[str]) -> list[str]:
    """Dotted names below each package that the command line fills with a group: ``group@package=choice``."""
    packages = [o.split("=", 1)[0].split("@", 1)[1] for o in overrides if "@" in o.split("=", 1)[0]]
    return [f"{package}.{key}" for package in packages for key in _at(used, package)]


def _at(node: Any, dotted: str) -> Any:
    for part in dotted.split(".") if dotted else ():
        node = node[part]
    return node
