"""``python src/convert.py``: models of the official RAE code and of diffusers, in and out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from unirae.app.config.schema.kinds import Output
from unirae.app.shell import cli
from unirae.app.shell.options import Flag, parse
from unirae.core.errors import ConfigError

Program = Literal["rae", "diffusers"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Convert a model from another program to a folder of ours, or one of ours to another program.

    Give one of --from and --to. From rae it reads a configuration of the official code (bytetriper/RAE) and the weights
    that it names, from diffusers a folder of diffusers; --to writes what those programs load. Everything is checked
    strictly, and nothing is written unless all of it succeeded.
    """

    from_: Annotated[Program | None, tyro.conf.arg(name="from")] = None
    """The program that made the model."""
    to: Program | None = None
    """The program that is to load a model of ours."""
    output: Annotated[Path, Output()]
    """The folder to write; it must not exist yet."""
    config: Path | None = None
    """--from rae: the official YAML. Its relative paths count from here, or from the YAML's folder or one above it."""
    checkpoint: Path | None = None
    """--from rae: the weights of what the YAML trains, where it names none (ep-*.pt or weights alone). --to: a
    checkpoint, run folder or exported folder of ours."""
    input: Path | None = None
    """--from diffusers: the folder that save_pretrained wrote."""
    weights: Literal["ema", "model"] = "ema"
    """Of a training checkpoint: the average, or the raw weights."""
    encoder_weights: str | None = None
    """Where the encoder's weights lie, if not where the configuration or checkpoint says."""
    rae: Path | None = None
    """--to: where the autoencoder of a generator lies, if not where its checkpoint says."""
    embed_encoder: Flag = False
    """Put the encoder's weights into the folder, too, so that it needs neither a hub nor another folder."""
    data: str = "imagenet"
    """--from: the data that the model was trained on, as in --data of the scoring commands, which then use it."""


def main() -> int:
    """Parse, convert, and turn mistakes into one line."""
    options = parse(Options)
    return cli.run(lambda: run(options))


def run(options: Options) -> Path:
    """Convert; returns the folder.

    Raises:
        ConfigError: options that do not belong together.
    """
    from unirae.core.io import check_new_folder
    from unirae.core.log import get_logger

    cli.quiet_libraries()
    cli.configure_logging()
    if (options.from_ is None) == (options.to is None):
        raise ConfigError("say either --from or --to: which program the model comes from, or goes to")
    check_new_folder(options.output)
    if options.from_ == "rae":
        _needs(options, {"config": "the official YAML"}, refused=("input", "rae"))
        from unirae.app.conversions.from_official import from_official

        from_official(options)
    elif options.from_ == "diffusers":
        refused = ("config", "checkpoint", "rae", "embed_encoder")
        _needs(options, {"input": "the folder of diffusers"}, refused=refused)
        from unirae.app.conversions.diffusers import from_diffusers

        from_diffusers(options)
    else:
        refused = ("config", "input", "embed_encoder", "data")
        _needs(options, {"checkpoint": "the model of ours"}, refused=refused)
        if options.to == "rae":
            from unirae.app.conversions.to_official import to_official as convert
        else:
            from unirae.app.conversions.diffusers import to_diffusers as convert
        convert(options)
    get_logger(__name__).info("written: %s", options.output)
    return options.output


def _needs(options: Options, needed: dict[str, str], *, refused: tuple[str, ...]) -> None:
    direction = f"--from {options.from_}" if options.from_ else f"--to {options.to}"
    for name, what in needed.items():
        if getattr(options, name) is None:
            raise ConfigError(f"{direction} needs --{name}, {what}")
    for name in refused:
        if getattr(options, name) != getattr(Options, name):
            raise ConfigError(f"--{name} does not belong to {direction}; leave it out")
