"""Hydra's own command line: sweeps, and looking at a configuration. Hydra's refusals become one line each."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from unirae.app.config.composition import Composition, compose_run, explain, finish
from unirae.app.config.overrides import as_hydra_reads, groups
from unirae.app.config.schema.check import kinds_of
from unirae.app.config.schema.names import meant, nearest
from unirae.app.config.targets import config_dir
from unirae.core.errors import ConfigError

_FULL_ERROR = "HYDRA_FULL_ERROR"


@dataclass(frozen=True, kw_only=True)
class Request:
    """The request that the words of a command line make.

    Attributes:
        overrides: the ``key=value`` words.
        flags: the other words.
        multirun: True where every combination of values is to be run.
        shows: True where the configuration is to be shown.
        asks_hydra: True where Hydra is asked about itself, which needs no experiment.
    """

    overrides: list[str]
    flags: list[str]
    multirun: bool
    shows: bool
    asks_hydra: bool

    @property
    def for_hydra(self) -> list[str]:
        """The words for Hydra, whose parser wants the flags first."""
        return [*self.flags, *as_hydra_reads(self.overrides, multirun=self.multirun)]


class _OneLine(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def read_arguments(arguments: Sequence[str]) -> Request:
    """Sort the words of a command line.

    Raises:
        ConfigError: If a word is an option that Hydra does not have, or if a shell has made several of one pattern.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.__class__ = _OneLine
    known = sorted(option for action in parser._actions for option in action.option_strings)
    flags = [word.split("=", 1)[0] for word in arguments if word.startswith("-")]
    for flag in flags:
        if flag not in known:
            _refuse(flag, arguments, known)
    found = parser.parse_intermixed_args(list(arguments))
    _refuse_expanded(found.overrides)
    others = list(arguments)
    for word in found.overrides:
        others.remove(word)
    return Request(
        overrides=found.overrides,
        flags=others,
        multirun=found.multirun,
        shows=found.cfg is not None,
        asks_hydra=bool(found.hydra_help or found.info or found.shell_completion or found.experimental_rerun),
    )


def _refuse(flag: str, arguments: Sequence[str], known: list[str]) -> NoReturn:
    word = next(word for word in arguments if word.startswith(flag))
    key, _, value = word.lstrip("-").partition("=")
    if kinds_of(key) or key in groups():
        raise ConfigError(
            f"{word}: keys and groups of the configuration have no dashes: {key}={value or 'VALUE'}"
        )
    found = meant(nearest(flag, [one for one in known if one.startswith("--")]))
    raise ConfigError(f"{word}: there is no such option; {found or '--hydra-help lists the options'}")


def _refuse_expanded(words: Sequence[str]) -> None:
    """Refuse the words that a shell makes of ``data.data_dir=s-{0..9}.tar``: Hydra would take the last one alone."""
    shards = [word for word in words if re.fullmatch(r"data\.(source\.)?data_dir=.*\.tar", word, re.DOTALL)]
    if len(set(shards)) > 1:
        raise ConfigError(
            f"{shards[0]} and {len(shards) - 1} more like it: one value is meant. If the shell has made them of a "
            "pattern in braces, put the word in quotes: 'data.data_dir=shard-{000000..000418}.tar'"
        )


def check_sweep(words: Sequence[str]) -> None:
    """Compose the runs of a sweep, so that a mistake in the last one is found before the first begins.

    Each value of a sweep is tried once, beside the first ones of the others: mistakes are of one key each. What a
    search draws out of a range is not known yet.

    Raises:
        ConfigError: If one of the runs cannot be composed.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    overrides = as_hydra_reads(words, multirun=True)
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise ConfigError(explain(error, words)) from None
    values: list[list[str]] = []
    for override, text in zip(parsed, overrides, strict=True):
        if not override.is_sweep_override():
            values.append([text])
        elif override.is_discrete_sweep():
            sign = "++" if text.startswith("++") else ""
            values.append(
                [
                    f"{sign}{override.get_key_element().lstrip('+')}={value}"
                    for value in override.sweep_string_iterator()
                ]
            )
    first = [choices[0] for choices in values]
    compose_run(first)
    for i, choices in enumerate(values):
        for choice in choices[1:]:
            compose_run([*first[:i], choice, *first[i + 1 :]])


def run_hydra(arguments: Sequence[str], train: Callable[[Composition, Path], float | None] | None) -> None:
    """Hand a command line to Hydra, which shows what is asked for, or calls ``train`` for each run of a sweep.

    Raises:
        ConfigError: If Hydra refuses the command line.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
    def one_run(cfg: DictConfig) -> float | None:
        assert train is not None
        return train(*_composed_by_hydra(cfg))

    with _hydra_called(arguments):
        try:
            one_run()
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise ConfigError(explain(error, arguments)) from None


def _composed_by_hydra(cfg: Any) -> tuple[Composition, Path]:
    """The configuration that Hydra composed for one run of a sweep, and the folder that it has made for the run."""
    from hydra.core.hydra_config import HydraConfig

    hydra_cfg = HydraConfig.get()
    choices, overrides = dict(hydra_cfg.runtime.choices), list(hydra_cfg.overrides.task)
    config = finish(cfg, choices=choices, overrides=overrides)
    composition = Composition(config=config, experiment=str(choices["experiment"]), overrides=overrides)
    return composition, Path(hydra_cfg.runtime.output_dir)


@contextmanager
def _hydra_called(words: Sequence[str]) -> Any:
    """Within the block Hydra takes ``words`` for the program's arguments, and raises errors instead of printing."""
    arguments, errors = sys.argv, os.environ.pop(_FULL_ERROR, None)
    sys.argv, os.environ[_FULL_ERROR] = [arguments[0], *words], "1"
    try:
        yield
    finally:
        sys.argv = arguments
        del os.environ[_FULL_ERROR]
        if errors is not None:
            os.environ[_FULL_ERROR] = errors
