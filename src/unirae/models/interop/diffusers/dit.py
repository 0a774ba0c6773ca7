"""A diffusion transformer and its autoencoder as a pipeline of diffusers, and the transformer back.

    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    images = pipe([207, 360], guidance_scale=1.4, guidance_interval=(0.0, 0.9)).images

The folder runs without this package: the code in it is made from our modules when it is written
(:mod:`unirae.models.interop.standalone`). Reading runs none of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import read_json, write_folder
from unirae.core.strict import load_strictly, raise_on_differences
from unirae.flow.times import TIME_GRIDS
from unirae.models.checkpoints.pairing import decoder_for
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.build import build_denoiser, describe_denoiser
from unirae.models.interop.diffusers.config import CLASS, DIFFUSERS_VERSION, WITH_POSITIONS, read_config
from unirae.models.interop.diffusers.files import read_weights, write_config, write_weights
from unirae.models.interop.diffusers.rae_export import (
    EncoderNames,
    autoencoder_config,
    has_diffusers_positions,
    write_autoencoder,
)
from unirae.models.interop.standalone import standalone_source
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE

PIPELINE = "RAEDiTPipeline"
TRANSFORMER = "RAETransformer"
SETTINGS = {
    "num_inference_steps": "num_steps",
    "guidance_scale": "cfg_scale",
    "guidance_interval": "guidance_interval",
    "time_grid": "time_grid",
    "internal_guidance_scale": "ig_scale",
    "internal_guidance_interval": "ig_interval",
    "internal_guidance_unconditional_scale": "ig_unconditional_scale",
}
"""Arguments of a call of the pipeline, and our names for them."""
_PARTS = "unirae.models.interop.diffusers.parts"
_NETWORK, _STATISTICS = "network.", {"latents_mean": "mean", "latents_var": "var"}
_TRANSFORMER_KEYS = {"kind", "architecture", "time_shift", "latent_stats", "prediction"}


def save_dit_pipeline(
    denoiser: Denoiser,
    rae: RAE,
    folder: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    encoder_names: EncoderNames = "installed",
) -> Path:
    """Write a folder for ``DiffusionPipeline.from_pretrained``; all of it, or nothing.

    The autoencoder in it is diffusers' own AutoencoderRAE where that computes the decoder's positions and builds the
    encoder, and else a subclass that keeps both.

    Args:
        rae: which decodes the latents; its statistics must be the denoiser's, or absent.
        folder: a new one.
        class_names: one for each class, so that a call may give names.
        defaults: of a call, by the names of :data:`SETTINGS`.
        encoder_names: see :func:`~unirae.models.interop.diffusers.rae_export.save_rae_as_diffusers`.

    Raises:
        ConfigError: If diffusers cannot build this autoencoder, or if names or defaults do not fit.
        WeightsError: If the autoencoder has other latents, or was opened without its encoder.
        UserError: If the folder exists or cannot be written.
    """
    if denoiser.reads_text:
        raise ConfigError(
            "the pipelines of diffusers that are written here take labels, and this generator is conditioned on text; "
            "export it as a folder of ours, or convert it to RAEv2's files"
        )
    decoder = decoder_for(denoiser, rae)
    vae_config = autoencoder_config(decoder, own_encoder=True)
    as_theirs = has_diffusers_positions(decoder) and vae_config.encoder_config is None
    vae_class = CLASS if as_theirs else WITH_POSITIONS
    index = {
        "_class_name": ["pipeline", PIPELINE],
        "_diffusers_version": DIFFUSERS_VERSION,
        "id2label": _id2label(class_names, denoiser),
        "defaults": checked_defaults(defaults or {}),
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "transformer": ["unirae_transformer", TRANSFORMER],
        "vae": ["diffusers", CLASS] if vae_class == CLASS else ["unirae_autoencoder", WITH_POSITIONS],
    }

    def fill(new: Path) -> None:
        for part in ("scheduler", "transformer", "vae"):
            (new / part).mkdir()
        write_config(new / "model_index.json", index)
        _write_code(new / "pipeline.py", "pipeline")
        write_config(new / "scheduler/scheduler_config.json", _SCHEDULER)
        _write_code(new / "transformer/unirae_transformer.py", "transformer")
        _write_transformer(denoiser, new / "transformer")
        if vae_class == WITH_POSITIONS:
            _write_code(new / "vae/unirae_autoencoder.py", "autoencoder")
        write_autoencoder(decoder, vae_config, new / "vae", class_name=vae_class, encoder_names=encoder_names)

    return write_folder(folder, fill)


_SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "_diffusers_version": DIFFUSERS_VERSION,
    "num_train_timesteps": 1000,
    "shift": 1.0,
}
"""Euler's step alone: the pipeline hands it the shifted times, whose one owner is the transformer."""


def dit_from_diffusers_pipeline(folder: str | Path, *, variant: str | None = None) -> Denoiser:
    """The diffusion transformer of a folder that :func:`save_dit_pipeline` wrote, in eval mode, bit by bit.

    The autoencoder is in ``vae``, for :func:`~unirae.models.interop.diffusers.rae.rae_from_diffusers`.

    Raises:
        WeightsError: If ``folder`` is no such folder, files are missing or damaged, or tensors do not fit.
        ConfigError: If the architecture is one that we do not have.
    """
    folder = Path(folder).expanduser()
    where = folder / "transformer" if (folder / "transformer").is_dir() else folder
    content = read_config(where, hint="give the folder of a pipeline that save_dit_pipeline wrote")
    found = content.get("_class_name")
    if found != TRANSFORMER:
        raise WeightsError(
            f"{where / 'config.json'} is of {found}; only a {TRANSFORMER}, as save_dit_pipeline writes it, is ours"
        )
    values: dict[str, Any] = {"prediction": "velocity"}  # which folders of before did not say
    values |= {key: value for key, value in content.items() if not key.startswith("_")}
    if values.keys() != _TRANSFORMER_KEYS:
        different = ", ".join(sorted(values.keys() ^ _TRANSFORMER_KEYS))
        raise ConfigError(f"{where / 'config.json'}: missing or unknown {different}")
    _check_types(values, where / "config.json")
    tensors = read_weights(where, variant=variant)
    about = dict(values["latent_stats"] or {})
    wanted = {name for name, of in _STATISTICS.items() if about.get(of) is not None}
    others = {key for key in tensors if not key.startswith(_NETWORK)}
    raise_on_differences(TRANSFORMER, missing=wanted - others, unexpected=others - wanted, mismatched=set())
    stats = LatentStats(
        **{_STATISTICS[name]: tensors[name] for name in wanted}, eps=about.get("eps"), info=about.get("info")
    )
    try:
        denoiser = build_denoiser(
            values["kind"],
            **values["architecture"],
            time_shift=values["time_shift"],
            prediction=values["prediction"],
            latent_stats=stats,
        )
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"{where / 'config.json'} describes no network of ours: {error}") from None
    state = {key.removeprefix(_NETWORK): tensor for key, tensor in tensors.items() if key not in others}
    state |= {f"latent_stats.{name}": tensor for name, tensor in stats.state_dict().items()}
    load_strictly(denoiser, state, what=TRANSFORMER)
    return denoiser.eval().requires_grad_(False)


def _check_types(values: dict[str, Any], file: Path) -> None:
    for key, kinds, what in (
        ("kind", str, "a text"),
        ("prediction", str, "velocity or data"),
        ("architecture", dict, "keys and values"),
        ("time_shift", int | float, "a number above 0"),
        ("latent_stats", dict | None, "keys and values, or null"),
    ):
        if not isinstance(values[key], kinds) or (key == "time_shift" and not values[key] > 0):
            raise ConfigError(f"{file}: {key}={values[key]!r} must be {what}")


def _write_transformer(denoiser: Denoiser, folder: Path) -> None:
    stats = denoiser.latent_stats
    present = {name: getattr(stats, of) for name, of in _STATISTICS.items() if getattr(stats, of) is not None}
    about = {_STATISTICS[name]: list(tensor.shape) for name, tensor in present.items()}
    description = describe_denoiser(denoiser)
    description["latent_stats"] = {**about, "eps": stats.eps, "info": stats.info} if about else None
    write_config(
        folder / "config.json",
        {"_class_name": TRANSFORMER, "_diffusers_version": DIFFUSERS_VERSION, **description},
    )
    network = {
        _NETWORK + key: tensor
        for key, tensor in denoiser.state_dict().items()
        if not key.startswith("latent_stats.")
    }
    write_weights(folder, network | present)


def _write_code(path: Path, part: str) -> None:
    header = (
        "Part of a pipeline of diffusers, written by UniRAE from its own modules (MIT licence).\n\n"
        "Generated: change the modules that the comments name, not this file.\n"
    )
    path.write_text(standalone_source(f"{_PARTS}.{part}", header=header))


def _id2label(class_names: Sequence[str] | None, denoiser: Denoiser) -> dict[str, str] | None:
    if class_names is None:
        return None
    if len(class_names) != denoiser.num_classes:
        raise ConfigError(f"{len(class_names)} class_names for a network of {denoiser.num_classes} classes")
    return {str(number): name for number, name in enumerate(class_names)}


@dataclass(frozen=True, kw_only=True)
class PipelineIndex:
    """Content of a pipeline's index beside its parts.

    Attributes:
        class_names: in the order of labels; empty where they have none.
        defaults: of a call of the pipeline.
    """

    class_names: list[str]
    defaults: dict[str, Any]


def read_index(folder: Path, *, num_classes: int) -> PipelineIndex:
    """The checked index of a pipeline for a network of ``num_classes``.

    Raises:
        WeightsError: If the index is of another pipeline.
        ConfigError: If names or defaults do not fit.
    """
    file = folder / "model_index.json"
    content = read_json(file)
    found = content.get("_class_name") if isinstance(content, dict) else None
    if found not in (PIPELINE, ["pipeline", PIPELINE]):
        raise WeightsError(
            f"{file} is of {found}; only a {PIPELINE}, as the conversion to diffusers writes it, is ours"
        )
    names, defaults = content.get("id2label"), content.get("defaults")
    if names is not None and (
        not isinstance(names, dict) or names.keys() != {str(number) for number in range(num_classes)}
    ):
        raise ConfigError(f"{file}: id2label must give a name to each of the labels 0 to {num_classes - 1}")
    if defaults is not None and not isinstance(defaults, dict):
        raise ConfigError(f"{file}: defaults must be keys and values, not {defaults!r}")
    return PipelineIndex(
        class_names=[str(names[str(number)]) for number in range(num_classes)] if names else [],
        defaults=checked_defaults(defaults or {}, where=f"{file}: "),
    )


def checked_defaults(defaults: Mapping[str, Any], *, where: str = "") -> dict[str, Any]:
    """The defaults of a call, as JSON has them.

    Args:
        where: the file that they are from, for the message.

    Raises:
        ConfigError: If a default is unknown, or has a value that cannot be.
    """
    if unknown := defaults.keys() - SETTINGS.keys():
        raise ConfigError(
            f"{where}defaults: unknown {', '.join(sorted(unknown))}; known: {', '.join(SETTINGS)}"
        )
    intervals = [name for name in ("guidance_interval", "internal_guidance_interval") if name in defaults]
    for name in intervals:
        interval = defaults[name]
        if len(_numbers(interval)) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise ConfigError(f"{where}defaults: {name}={interval} must be two numbers within [0, 1]")
    if defaults.get("time_grid", "reference") not in TIME_GRIDS:
        raise ConfigError(
            f"{where}defaults: time_grid={defaults['time_grid']!r}; known: {', '.join(TIME_GRIDS)}"
        )
    steps = defaults.get("num_inference_steps", 2)
    if not isinstance(steps, int) or steps < 2:
        raise ConfigError(
            f"{where}defaults: num_inference_steps={steps!r} counts the time grid's points; at least 2"
        )
    for name in defaults:
        if name.endswith("_scale") and not _numbers([defaults[name]]):
            raise ConfigError(f"{where}defaults: {name}={defaults[name]!r} must be a number")
    return {**defaults, **{name: list(defaults[name]) for name in intervals}}


def _numbers(values: Any) -> list[float]:
    """The numbers among the values of a list."""
    given = values if isinstance(values, list | tuple) else []
    return [value for value in given if isinstance(value, int | float) and not isinstance(value, bool)]
