"""``python src/describe_encoder.py --encoder NAME``: an encoder's numbers, and the shapes that follow from them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unirae.app.config.schema.kinds import Pixels
from unirae.app.shell import cli
from unirae.app.shell.options import command
from unirae.core.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from unirae.models.encoders.shape import EncoderShape

DECODER_PATCHES = (14, 16, 32)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Patch, width, prefix tokens, pixels and the shapes that follow, before anything is trained.

    The model's configuration is enough: no weights are loaded. A model of timm and a file of configs/model/encoder need
    no network either.
    """

    encoder: str
    """A hub's name, a folder in transformers' or timm's format, a model of timm (with --kind timm), or a file of
    configs/model/encoder such as dinov2_registers."""
    kind: str | None = None
    """Kind of the encoder: dinov2, dinov3, siglip2, mae, generic_hf or timm. Default: as its configuration says."""
    image_size: tuple[Pixels, ...] = ()
    """A further input size of the encoder in pixels, shown beside its usual one: one number, or height and width."""


def run(options: Options) -> "EncoderShape":
    """Show the tables of an encoder."""
    cli.configure_logging()
    cli.quiet_libraries()
    if len(options.image_size) > 2:
        raise ConfigError(f"--image_size {' '.join(map(str, options.image_size))}: give one number, or two")
    shape, note = find_shape(options.encoder, options.kind)
    sizes = [shape.usual_size]
    if options.image_size:
        sizes.append((options.image_size[0], options.image_size[-1]))
    show(shape, list(dict.fromkeys(sizes)), note=note)
    return shape


main = command(Options, run)


def find_shape(encoder: str, kind: str | None) -> "tuple[EncoderShape, str]":
    """The shape of the encoder, and a remark on where its mean and std come from.

    Raises:
        ConfigError: If the kind is unknown, or is given beside a file of configs/ that states its own.
        WeightsError: If the encoder's configuration cannot be read or fetched.
    """
    from unirae.app.config.targets import config_dir
    from unirae.models.encoders.discover import find_kind
    from unirae.models.encoders.shape import shape_from_files

    if not Path(encoder).exists() and (config_dir() / "model/encoder" / f"{encoder}.yaml").is_file():
        if kind is not None:
            raise ConfigError(
                f"--kind: configs/model/encoder/{encoder}.yaml states the kind; leave the option out"
            )
        return _of_choice(encoder)
    kind = kind or _timm_folder(encoder) or find_kind(encoder)
    return shape_from_files(kind, encoder), ""


def _of_choice(choice: str) -> "tuple[EncoderShape, str]":
    """The shape of an encoder in configs/model/encoder; by its written architecture where its own files are missing."""
    from unirae.app.config.composition import compose
    from unirae.models.encoders.shape import shape_from_architecture, shape_from_files

    node = compose(["experiment=linear_probe", f"model/encoder={choice}"])["model"]["encoder"]
    place = node["name"] if node["weights"] in ("hub", "random") else node["weights"]
    try:
        shape, note = shape_from_files(node["kind"], place, local_only=True), ""
    except (WeightsError, ConfigError):  # the latter: timm knows no model by the name of a file of weights
        shape = shape_from_architecture(node["kind"], node["name"], node["architecture"])
        note = "mean and std: the kind's usual ones; its preprocessor_config.json is not here"
    said = {key: tuple(node[key]) for key in ("mean", "std") if node[key] is not None}
    return replace(shape, **said), "" if len(said) == 2 else note


def _timm_folder(encoder: str) -> str | None:
    """``timm`` where a folder's ``config.json`` is timm's."""
    from unirae.core.io import read_json

    file = Path(encoder).expanduser() / "config.json"
    return "timm" if file.is_file() and "architecture" in read_json(file) else None


def show(shape: "EncoderShape", sizes: list[tuple[int, int]], *, note: str) -> None:
    """Two tables: the encoder, and the shapes at each input size.

    Raises:
        ConfigError: If an input size does not split into patches.
    """
    from rich.console import Console
    from rich.table import Table

    latents = [shape.latent(size) for size in sizes]
    about = Table(title=shape.name, caption=note, show_header=False)
    for name, value in (
        ("kind", shape.kind),
        ("patch, px", str(shape.patch_size)),
        ("width", str(shape.width)),
        ("prefix tokens, dropped", str(shape.num_prefix_tokens)),
        ("mean", _numbers(shape.mean)),
        ("std", _numbers(shape.std)),
        ("usual resolution, px", _size(shape.usual_size)),
    ):
        about.add_row(name, value)
    shapes = Table("input, px", *(_size(latent.size) for latent in latents))
    shapes.add_row("tokens", *("×".join(map(str, latent.tokens)) for latent in latents))
    for patch in DECODER_PATCHES:
        shapes.add_row(f"output at decoder patch {patch}, px", *(_size(at.output(patch)) for at in latents))
    shapes.add_row("numbers in a latent", *(f"{latent.count:,}" for latent in latents))
    shapes.add_row("time shift", *(f"{latent.time_shift:.2f}" for latent in latents))
    console = Console()
    console.print(about)
    console.print(shapes)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _size(size: tuple[int, int]) -> str:
    return "×".join(map(str, size))


if __name__ == "__main__":
    raise SystemExit(main())
