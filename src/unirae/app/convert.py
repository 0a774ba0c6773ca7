"""``python src/convert.py``: models of the official RAE code and of diffusers, in and out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from unirae.app.config.schema.kinds import Output
from unirae.app.shell import cli
from unirae.app.shell.options import Flag, command
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
    """The weights to take from a training checkpoint: their average (ema), or the raw weights (model)."""
    encoder_weights: str | None = None
    """The encoder's weights, a folder or file. Default: where the configuration or checkpoint says."""
    rae: Path | None = None
    """--to: the autoencoder of a generator. Default: where the generator's checkpoint says."""
    text_encoder: str | None = None
    """The text encoder of a generator of RAEv2 that reads texts: a folder or a hub's name. --to rae: the one that the
    written YAML is to name. Default: where the configuration or checkpoint says."""
    embed_encoder: Flag = False
    """Put the encoder's weights into the folder, too, so that it needs neither a hub nor another folder."""
    data: str = "imagenet"
    """--from: the data that the model was trained on, as in --data of the scoring commands, which then use it."""


def run(options: Options) -> Path:
    """Convert; returns the folder.

    Raises:
        ConfigError: If options do not belong together.
    """
    from unirae.app.shell.devices import choose_data
    from unirae.core.io import check_new_folder
    from unirae.core.log import get_logger

    cli.quiet_libraries()
    cli.configure_logging()
    if (options.from_ is None) == (options.to is None):
        raise ConfigError("say either --from or --to: which program the model comes from, or goes to")
    check_new_folder(options.output)
    if options.from_ == "rae":
        config = _needed(options, "config", "the official YAML", refused=("input", "rae"))
        from unirae.models.interop.official.from_official import from_official
        from unirae.models.interop.official.place import OfficialModel

        model = OfficialModel(
            config=config,
            checkpoint=options.checkpoint,
            weights=options.weights,
            encoder_weights=options.encoder_weights,
            embed_encoder=options.embed_encoder,
            text_encoder=options.text_encoder,
        )
        from_official(model, read_yaml(config), options.output, data=choose_data(options.data, None, {}))
    elif options.from_ == "diffusers":
        refused = (
            "config",
            "checkpoint",
            "weights",
            "rae",
            "embed_encoder",
            "encoder_weights",
            "text_encoder",
        )
        source = _needed(options, "input", "the folder of diffusers", refused=refused)
        from unirae.models.interop.diffusers.folders import from_diffusers

        from_diffusers(source, options.output, data=choose_data(options.data, None, {}))
    else:
        refused = ("config", "input", "embed_encoder", "data")
        refused += ("text_encoder",) if options.to == "diffusers" else ()
        checkpoint = _needed(options, "checkpoint", "the model of ours", refused=refused)
        from unirae.models.checkpoints.reading import open_checkpoint

        own: dict[str, Any] = {}
        if options.to == "rae":
            from unirae.models.interop.official.to_official import to_official as convert

            own["text_encoder"] = options.text_encoder
        else:
            from unirae.models.interop.diffusers.folders import to_diffusers as convert
        convert(
            open_checkpoint(checkpoint, kind=("stage1", "stage2")),
            options.output,
            ema=options.weights == "ema",
            encoder_weights=options.encoder_weights,
            rae=options.rae,
            **own,
        )
    get_logger(__name__).info("written: %s", options.output)
    return options.output


main = command(Options, run)


def _needed(options: Options, name: str, what: str, *, refused: tuple[str, ...]) -> Path:
    """The option that names the model to convert; an option that means nothing in this direction is refused."""
    direction = f"--from {options.from_}" if options.from_ else f"--to {options.to}"
    if (needed := getattr(options, name)) is None:
        raise ConfigError(f"{direction} needs --{name}, {what}")
    for other in refused:
        if getattr(options, other) != getattr(Options, other):
            raise ConfigError(f"--{other} does not belong to {direction}; leave it out")
    return needed


def read_yaml(path: Path) -> Any:
    """A YAML file as plain values, its interpolations resolved.

    Raises:
        ConfigError: If the file is missing or is not valid YAML.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not path.is_file():
        raise ConfigError(f"--config {path}: no such file")
    try:
        return _plain(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"--config {path} is not valid YAML: {str(error).splitlines()[0]}") from None


def _plain(value: Any) -> Any:
    """Turn paths, for which YAML has a tag of Python's, into text."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
