"""``python src/export.py``: a trained model as a folder without pickles, with a model card; to the hub, if wished."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unirae.app.config.schema.kinds import OutputFolder
from unirae.app.shell import cli
from unirae.app.shell.options import Flag, command
from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    from unirae.models.checkpoints.reading import Checkpoint
    from unirae.models.rae import RAE


@dataclass(frozen=True, kw_only=True)
class Options:
    """Write a trained model as config.json and model.safetensors with a model card, README.md.

    The folder is all that load_rae, load_dit, sampling and scoring need; a generator's folder holds its autoencoder.
    With --push_to_hub the folder is uploaded, too; from_hub fetches it again.
    """

    checkpoint: Path
    """A checkpoint of stage 1 or 2, the folder of its run, or a folder that was exported or converted before."""
    output: OutputFolder
    """The folder to write; it must not exist yet."""
    weights: Literal["ema", "model"] = "ema"
    """The weights to export: their average (ema), or the raw weights (model)."""
    rae: Path | None = None
    """The autoencoder of a generator. Default: where the generator's checkpoint says."""
    encoder_weights: str | None = None
    """The encoder's weights, a folder or file. Default: where the checkpoint says."""
    embed_encoder: Flag = False
    """Put the encoder's weights into the folder, too (mind their licence)."""
    picture: Path | None = None
    """An image for the card. Default: the newest samples/step-*.png of the run."""
    license: str | None = None
    """Licence of the model for the card, such as mit. Default: the card says that none is stated."""
    push_to_hub: str | None = None
    """Repository on the Hugging Face hub to upload to, owner/name. It is created if need be, and needs a login
    (hf auth login)."""
    private: Flag = False
    """Make a new repository on the hub private."""


def run(options: Options) -> Path:
    """Write the folder, and upload it if wished; returns it."""
    from unirae.app.weights.model_card import PICTURE, newest_picture, write_card
    from unirae.core.io import check_new_folder, write_folder
    from unirae.core.log import get_logger
    from unirae.models.checkpoints.hub import push_to_hub
    from unirae.models.checkpoints.model_folder import write_model_folder
    from unirae.models.checkpoints.reading import open_checkpoint

    cli.quiet_libraries()
    cli.configure_logging()
    if options.private and options.push_to_hub is None:
        raise ConfigError("--private is for a new repository on the hub; give --push_to_hub owner/name, too")
    check_new_folder(options.output)
    checkpoint = open_checkpoint(options.checkpoint, kind=("stage1", "stage2"))
    file = checkpoint.file
    picture = options.picture or newest_picture(file)
    if picture is not None and not picture.is_file():
        raise ConfigError(f"--picture {picture}: no such file")
    exported = _averaged(checkpoint, options.weights)
    parts: dict[str, dict[str, Any]] = {}
    if checkpoint.kind == "stage2":
        exported, parts = _with_parts(options, checkpoint, exported)
    elif options.rae is not None:
        raise ConfigError("--rae belongs to a generator's checkpoint; this one is of an autoencoder")
    elif options.embed_encoder:
        exported = _embedding(exported, _load_rae(options, checkpoint))

    def fill(folder: Path) -> None:
        write_model_folder(folder, exported, parts)
        shown = None
        if picture is not None:
            shown = f"{PICTURE}{picture.suffix}"
            shutil.copyfile(picture, folder / shown)
        write_card(folder, exported["unirae"], run=file, picture=shown, license=options.license)

    write_folder(options.output, fill)
    get_logger(__name__).info("exported: %s", options.output)
    if options.push_to_hub is not None:
        address = push_to_hub(options.output, options.push_to_hub, private=options.private)
        get_logger(__name__).info("uploaded: %s", address)
    return options.output


main = command(Options, run)


def _averaged(checkpoint: "Checkpoint", weights: str) -> dict[str, Any]:
    """The checkpoint's content with the wanted weights in the place of the average, and nothing else."""
    stage = {"stage1": "decoder", "stage2": "dit"}[checkpoint.kind]
    state = checkpoint.weights("ema" if weights == "ema" else stage)
    said = checkpoint.about.get("exported_weights", "ema")  # of a folder that is exported again
    about = {**checkpoint.about, "exported_weights": weights if said == "ema" else said}
    if about["kind"] == "stage2":
        about["ema"] = {"ema": about["ema"]["ema"] if weights == "ema" else None}
    return {"unirae": about, "state_dict": {f"ema.{name}": tensor for name, tensor in state.items()}}


def _with_parts(
    options: Options, checkpoint: "Checkpoint", exported: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The generator, and what lies inside its folder: the autoencoder, and its guide if it has one."""
    from unirae.models.checkpoints.making import rae_content
    from unirae.models.checkpoints.opening import rae_of_dit
    from unirae.models.checkpoints.reading import open_checkpoint

    about, file = checkpoint.about, checkpoint.file
    reference = about["rae"]
    # opened with its encoder only where that is to be put inside: an export needs no network
    rae = rae_of_dit(
        checkpoint,
        rae=options.rae,
        encoder_weights=options.encoder_weights,
        with_encoder=options.embed_encoder or reference["path"] is None,
    )
    if options.rae is None and reference["path"] is None:  # a random one, for smoke tests
        origin = {"version": about["version"], "recipe": reference["recipe"]}
        inner = rae_content(
            rae, config={"model": reference["recipe"], "data": about["config"]["data"]}, origin=origin
        )
    else:
        inner = _averaged(
            open_checkpoint(options.rae or file.parent / reference["path"], kind="stage1"), "ema"
        )
        if options.embed_encoder:
            inner = _embedding(inner, rae)
    parts = {"rae": inner}
    named = {**reference, "path": "rae", "recipe": None}
    exported["unirae"] |= {"rae": named}
    if guide := (about.get("sampling") or {}).get("guide"):
        weak = _averaged(open_checkpoint(file.parent / guide, kind="stage2"), "ema")
        weak["unirae"] |= {"rae": named | {"path": "../rae"}}
        parts["guide"] = weak
        exported["unirae"]["sampling"] = {**about["sampling"], "guide": "guide"}
    return exported, parts


def _load_rae(options: Options, checkpoint: "Checkpoint") -> "RAE":
    from unirae.models.checkpoints.opening import rae_from_checkpoint

    return rae_from_checkpoint(checkpoint, encoder_weights=options.encoder_weights)


def _embedding(content: dict[str, Any], rae: "RAE") -> dict[str, Any]:
    """The checkpoint's content with the encoder's weights inside."""
    about = dict(content["unirae"])
    identity = about["rae"]["encoder"]
    about["rae"] = {**about["rae"], "encoder": {**identity, "embedded": True}}
    about["encoder_state"] = rae.encoder.state_dict()
    return {**content, "unirae": about}
