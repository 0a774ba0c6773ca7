"""``evaluate.py`` on a checkpoint of ours: the commands for its stage, by their own names."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app.scores.options import DEFAULT_METRICS, Options
from unirae.core.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from unirae.evaluation.scores.record import Scores


_ENCODER = ("encoder", "encoder_kind", "encoder_name", "encoder_pooling")
"""Options that no checkpoint takes, since it has an encoder of its own."""


def checkpoint_kind(spec: str) -> str | None:
    """``stage1`` or ``stage2`` where ``spec`` is a checkpoint file or the folder of a run; None where it is neither.

    Raises:
        WeightsError: If the checkpoint is of another kind, or none of ours.
    """
    from unirae.models.checkpoints.model_folder import is_model_folder
    from unirae.models.checkpoints.reading import open_checkpoint

    path = Path(spec).expanduser()
    is_file = path.is_file() and path.suffix in (".ckpt", ".pt", ".pth")
    if not is_file and not (path / "checkpoints").is_dir() and not is_model_folder(path):
        return None
    kind = open_checkpoint(path, kind=("stage1", "stage2", "mae", "linear_probe")).kind
    if kind not in ("stage1", "stage2"):
        raise WeightsError(
            f"{spec} is a checkpoint of kind {kind!r}; give one of an autoencoder or a generator"
        )
    return kind


def score_checkpoint(options: Options, kind: str) -> "Scores":
    """Score the reconstructions of a stage-1 checkpoint, or the samples of a stage-2 checkpoint."""
    return _reconstructions(options) if kind == "stage1" else _samples(options)


def _refuse(options: Options, names: tuple[str, ...], why: str) -> None:
    given = [
        f"--{f.name}" for f in fields(options) if f.name in names and getattr(options, f.name) != f.default
    ]
    if given:
        raise ConfigError(f"{', '.join(given)}: {why}")


def _reconstructions(options: Options) -> "Scores":
    from unirae.app import eval_rfid
    from unirae.app.inputs.images import is_reference_file

    why = "a stage-1 checkpoint reconstructs the images of --reference, cropped to its own size"
    others = (
        "images_split",
        "reference_split",
        "size",
        "reference_samples",
        "is_order",
        "cache",
        "verify_contents",
    )
    _refuse(options, (*others, *_ENCODER, "fdr_weights", "fdr_references", "clip", "prompts"), why)
    reference = None if options.reference is None else str(Path(options.reference).expanduser())
    is_file = reference is not None and is_reference_file(reference)
    if reference is not None and not is_file:
        _check_originals(reference)
    own: dict[str, Any] = {
        **_alike(options, eval_rfid.Options),
        "checkpoint": Path(options.images).expanduser(),
        "data": None if is_file else reference,
        "reference": Path(str(reference)) if is_file else None,
        "metrics": options.metrics or eval_rfid.Options.metrics,
    }
    return eval_rfid.run(eval_rfid.Options(**own))


def _check_originals(reference: str) -> None:
    """Refuse a reference that can be compared with, but not reconstructed.

    Raises:
        ConfigError: If ``--reference`` is neither a name in ``configs/data`` nor a folder.
    """
    from unirae.app.config.targets import data_names

    if reference in data_names() or Path(reference).is_dir():
        return
    raise ConfigError(
        f"--reference {reference}: a stage-1 checkpoint reconstructs the validation images of "
        f"{', '.join(data_names())} or of a folder, and takes a file of "
        "make_reference.py --purpose reconstruction beside its own; images in an npz or on a hub must "
        "first be written into a folder"
    )


def _samples(options: Options) -> "Scores":
    from unirae.app import eval_fid

    others = ("images_split", "size", "lpips_weights", *_ENCODER)
    _refuse(options, others, "not of samples of a checkpoint")
    own = options.reference in (None, "data")
    if own and options.reference_split not in (None, "train", "val"):
        raise ConfigError(
            f"--reference_split {options.reference_split}: the checkpoint's own data have the splits train and val"
        )
    command: dict[str, Any] = {
        **_alike(options, eval_fid.Options),
        "checkpoint": Path(options.images).expanduser(),
        "reference": options.reference or "data",
        "reference_split": None if own else options.reference_split,
        "split": options.reference_split if own else None,
        "num_samples": 50_000 if options.num_samples is None else options.num_samples,
        "metrics": options.metrics or DEFAULT_METRICS,
    }
    return eval_fid.run(eval_fid.Options(**command))


def _alike(options: Options, command: type[Any]) -> dict[str, Any]:
    """The values of the options that another command has, too."""
    own = {field.name for field in fields(command)}
    return {field.name: getattr(options, field.name) for field in fields(options) if field.name in own}
