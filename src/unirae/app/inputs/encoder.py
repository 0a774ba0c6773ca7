"""The encoder that an option names: an autoencoder's checkpoint, a folder or file of weights, a hub's name, or none."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unirae.app.inputs.options import run_folder
from unirae.core.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from unirae.models.encoders.base import Encoder

EncoderKind = Literal["dinov2", "dinov3", "siglip2", "mae", "generic_hf", "timm"]
PIXELS = "pixels"
"""The name of raw pixels, which stand in the place of an encoder's features."""


@dataclass(frozen=True, kw_only=True)
class EncoderSource:
    """An encoder and what is known beside it.

    Attributes:
        encoder: None stands for raw pixels.
        input_size: (height, width) that the encoder works at.
        data: the configuration of the data that it was trained on here, if it was.
        folder: the default folder of results.
        name: short, for the names of files.
        about: the encoder's identity, for the settings.
    """

    encoder: "Encoder | None"
    input_size: tuple[int, int] | None
    data: dict[str, Any] | None
    folder: Path
    name: str
    about: dict[str, Any]


def find_encoder(
    source: str,
    *,
    kind: EncoderKind | None,
    model_name: str | None,
    weights: str | None,
    kind_option: str = "--kind",
) -> EncoderSource:
    """Find the encoder that ``--encoder_checkpoint`` names.

    Args:
        source: a checkpoint of stage 1 or 2 or its run's folder; a folder in transformers' format, such as stage 0
            writes; a hub's name; with ``kind="timm"`` a model of timm; or ``pixels``.
        kind: the kind of an encoder that is no checkpoint of ours; None finds out.
        model_name: timm's name of the model, where ``source`` is a file of weights.
        weights: the present place of the weights of a checkpoint's encoder.
        kind_option: the command's name of ``kind``, for messages.

    Raises:
        ConfigError: If an option does not apply to this encoder.
        WeightsError: If ``source`` does not exist or is no encoder.
    """
    from unirae.models.checkpoints.model_folder import is_model_folder

    if source == PIXELS:
        folder = Path("outputs/linear_probe")
        return EncoderSource(encoder=None, input_size=None, data=None, folder=folder, name=PIXELS, about={})
    path = Path(source).expanduser()
    run = path.suffix == ".ckpt" or ((path / "checkpoints").is_dir() and not (path / "config.json").is_file())
    if kind is None and (run or is_model_folder(path)):
        return _of_checkpoint(path, weights)
    _refuse_weights(weights)
    return _of_weights(source, path, kind or _found_kind(source, kind_option), model_name)


def check_timm_source(source: str, path: Path, *, weights: str | None, model_name: str | None) -> None:
    """Refuse options that do not go with a model of timm: a file of weights needs its name, and nothing else does.

    Raises:
        ConfigError: If an option is missing or too many.
    """
    _refuse_weights(weights)
    if model_name is not None and not path.is_file():
        raise ConfigError(_NAME_OF_NO_FILE)
    if model_name is None and path.is_file():
        raise ConfigError(f"{source} is a file of weights; name its timm model with --encoder_name")


_NAME_OF_NO_FILE = "--encoder_name names the timm model of a file of weights; leave it out here"


def _refuse_weights(weights: str | None) -> None:
    if weights is not None:
        raise ConfigError(
            "--encoder_weights is for a checkpoint whose encoder lies elsewhere; leave it out here"
        )


def _of_checkpoint(path: Path, weights: str | None) -> EncoderSource:
    from unirae.core.io import file_sha256
    from unirae.models.checkpoints.opening import load_rae
    from unirae.models.checkpoints.reading import open_checkpoint

    checkpoint = open_checkpoint(path, kind=("stage1", "stage2"))
    file, about = checkpoint.file, checkpoint.about
    rae = load_rae(checkpoint, encoder_weights=weights)
    return EncoderSource(
        encoder=rae.encoder,
        input_size=rae.encoder_input_size,
        data=about["config"]["data"],
        folder=run_folder(file),
        name=file.stem,
        about={
            "checkpoint": str(file),
            "checkpoint_sha256": file_sha256(file),
            "trained_with": {key: about[key] for key in ("version", "commit", "step")},
        },
    )


def _found_kind(source: str, option: str) -> str:
    from unirae.core.arguments import called
    from unirae.models.encoders.discover import find_kind

    with called({"encoder.kind": option}):
        return find_kind(source)


def _of_weights(source: str, path: Path, kind: str, model_name: str | None) -> EncoderSource:
    from unirae.models.encoders.build import build_encoder

    if kind == "timm":
        check_timm_source(source, path, weights=None, model_name=model_name)
    elif model_name is not None:
        raise ConfigError(_NAME_OF_NO_FILE)
    encoder = build_encoder(
        kind=kind,
        name=model_name or source,
        weights=str(path) if path.exists() else "hub",
        architecture={"model_name": model_name or source} if kind == "timm" else None,
        rope_periods="bf16" if kind == "dinov3" else "exact",  # as it was released
    )
    local = path.is_dir()
    return EncoderSource(
        encoder=encoder,
        input_size=encoder.usual_size,
        data=_data_of_run(path) if local else None,
        folder=path if local else Path("outputs/linear_probe"),
        name=path.stem if path.exists() else source.replace("/", "_"),
        about={"encoder": source},
    )


def _data_of_run(folder: Path) -> dict[str, Any] | None:
    """The data that an encoder of stage 0 was trained on, as the run in the same folder says."""
    from unirae.models.checkpoints.reading import find_checkpoint, open_checkpoint

    try:
        file = find_checkpoint(folder)
    except WeightsError:  # weights from elsewhere
        return None
    return open_checkpoint(file, kind="mae").config["data"]
