"""Composing the configuration with Hydra, and checking it against the table of keys."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unirae.app.config.mixing import FORM, check_mix, read_choices
from unirae.app.config.overrides import as_hydra_reads, key_of
from unirae.app.config.schema.check import check, problems_of
from unirae.app.config.targets import config_dir, experiments
from unirae.core.differences import flat
from unirae.core.errors import ConfigError

_NOT_MODELS_OF_KEYS = ("experiment", "debug", "hparams_search")
_PLUGINS = {"optuna": "hydra-optuna-sweeper", "joblib": "hydra-joblib-launcher"}
"""The package that a choice of ``hydra/sweeper`` or ``hydra/launcher`` needs."""


@dataclass(frozen=True, kw_only=True)
class Composition:
    """The composition of a command line.

    Attributes:
        config: the configuration, resolved and checked, as plain values.
        experiment: the experiment's name.
        overrides: the overrides of the command line, as Hydra has read them.
        multirun: True where a sweep was chosen without ``-m``, as by ``hparams_search=optuna``.
    """

    config: dict[str, Any]
    experiment: str
    overrides: Sequence[str]
    multirun: bool = False


def compose(words: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration of a command line, as plain values: ``compose(["experiment=rae_tiny"])``.

    Raises:
        ConfigError: If a word is no override, or names an unknown experiment, choice or key, or holds a wrong value.
    """
    return compose_run(words).config


def compose_run(words: Sequence[str]) -> Composition:
    """Compose a command line as :func:`compose` does, and keep what Hydra knows besides.

    Raises:
        ConfigError: If a word is no override, or names an unknown experiment, choice or key, or holds a wrong value.
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
    """Explain in one line what Hydra refuses; Hydra's own messages end in advice that does not hold here."""
    message = " ".join(str(error).split())
    for choice, package in _PLUGINS.items():
        if f"/{choice}" in message or f"'{choice}'" in message:
            return f"{' '.join(words)}: Hydra's plug-in for {choice} is not installed: pip install {package}"
    for word in words:
        group = key_of(word)
        if f"{group}.".startswith("data.sources.") and _is_of(word, message):
            return (
                f"{word}: cannot be read. Give all entries together, as in data.sources={FORM}, and a path with "
                'brackets, commas or colons in quotes: data_dir: "/path/to/images (1)"'
            )
        if f"Could not override '{group}'" in message or f"Could not override '{group}@" in message:
            return (
                f"{word}: this experiment has no {group} there; stage 2 has its autoencoder's parts below model.rae "
                f"({group}@model.rae.{group.removeprefix('model/')}=CHOICE), other stages below model; to see what "
                "there is: python src/train.py experiment=NAME --cfg job"
            )
    cause = message.split("Config search path")[0].split(" To append to your")[0].split("See https")[0]
    return f"{' '.join(words) or 'train'}: {cause.strip()}"


def _is_of(word: str, message: str) -> bool:
    """True where a message of Hydra's is of this word: it names the override, or the text that it cannot read."""
    unread, word = re.search(r" at input '(.*)'", message), " ".join(word.split())
    return f"++{word}" in message or (unread is not None and unread[1] in word)


def _check_experiment(overrides: Sequence[str]) -> None:
    given = [word for word in overrides if key_of(word) == "experiment" and not word.startswith("~")]
    if not given:
        raise ConfigError(f"experiment=NAME is missing; choose one of {', '.join(experiments())}")
    if len(given) > 1:
        raise ConfigError(f"{' '.join(given)}: give one experiment only")


def finish(cfg: Any, *, choices: dict[str, str | None], overrides: Sequence[str]) -> dict[str, Any]:
    """Resolve what Hydra composed, and check it against the table of keys; returns plain values.

    The result also lists under ``changed_keys`` what the experiment and the command line set, so that whoever derives a
    value can tell a default of a group from somebody's wish.

    Args:
        cfg: the composed ``DictConfig``, without its ``hydra`` node.
        choices: Hydra's group choices.
        overrides: the overrides of the command line, as Hydra has read them.

    Raises:
        ConfigError: If a key or a value is not as the table says.
    """
    from omegaconf import OmegaConf

    typed = {key_of(override) for override in overrides if override.startswith("++")}
    of_files = _keys_of_files(choices)
    read_choices(cfg)
    _let_files_give_way(cfg, of_files - typed, choices=choices, overrides=overrides)
    used: Any = OmegaConf.to_container(cfg, resolve=False)
    # first as it is written: names what was set, not what follows from it
    check(used, experiment=f"experiment={choices['experiment']}", typed=typed)
    plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    resolved = check(plain)
    check_mix(resolved["data"])
    packages = [o.split("=", 1)[0].split("@", 1)[1] for o in overrides if "@" in o.split("=", 1)[0]]
    of_packages = {f"{package}.{key}" for package in packages for key in _at(used, package)}
    wished = _keys_of_files({**choices, "debug": None}) | typed | of_packages  # a preset is for every stage
    resolved["changed_keys"] = sorted(key for key in wished if has_key(used, key))
    return resolved


def _keys_of_files(choices: Mapping[str, str | None]) -> set[str]:
    """Dotted keys that the experiment and the presets set, in their files and in the files that these build on."""
    import yaml

    found: set[str] = set()
    files = [(group, choices.get(group)) for group in _NOT_MODELS_OF_KEYS]
    for group, choice in files:  # which grows
        if choice is not None:
            content = (
                yaml.safe_load((config_dir() / group / f"{choice}.yaml").read_text(encoding="utf-8")) or {}
            )
            files += [
                (group, base)
                for base in content.pop("defaults", [])
                if isinstance(base, str) and base != "_self_"
            ]
            content.pop("hydra", None)
            found |= set(flat(content))
    return found


def _let_files_give_way(
    cfg: Any, of_files: set[str], *, choices: Mapping[str, str | None], overrides: Sequence[str]
) -> None:
    """Drop values that an experiment sets for a file of its choice where the command line chooses another file.

    In the nodes that the command line fills with a file, values of the experiment stay where that file has such a key
    of that kind, and give way to the file's own elsewhere.
    """
    import hydra
    from omegaconf import OmegaConf, open_dict

    chosen = tuple(
        f"{o.split('=', 1)[0].partition('@')[2] or key_of(o).replace('/', '.')}."
        for o in overrides
        if not o.startswith(("++", "~", "hydra"))
    )
    candidates = [key for key in sorted(of_files) if key.startswith(chosen)]
    used: Any = OmegaConf.to_container(cfg, resolve=False)
    refused = {key for key, _ in problems_of(used)}
    if not any(key in refused or ".architecture." in key for key in candidates):
        return
    groups = [
        f"{name}={choice}"
        for name, choice in choices.items()
        if choice is not None
        and not name.startswith("hydra")
        and name.split("@")[0] not in _NOT_MODELS_OF_KEYS
    ]
    own: Any = OmegaConf.to_container(hydra.compose("train", ["~experiment", *groups]), resolve=False)
    with open_dict(cfg):
        for key in candidates:
            if has_key(own, key) and key in refused:
                OmegaConf.update(cfg, key, _at(own, key))
            elif not has_key(own, key) and (key in refused or ".architecture." in key):
                node, _, name = key.rpartition(".")
                del OmegaConf.select(cfg, node)[name]


def _at(node: Any, dotted: str) -> Any:
    for part in dotted.split(".") if dotted else ():
        node = node[part]
    return node


def has_key(node: Any, dotted: str) -> bool:
    """True where a configuration of plain values has a dotted key."""
    for part in dotted.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True
