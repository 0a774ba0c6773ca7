"""Conversion of a model of ours to files that the official RAE code loads."""

import math
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from unirae.core.arguments import argument
from unirae.core.conventions import LATENT_EPS
from unirae.core.errors import ConfigError
from unirae.core.io import save_tensors, write_folder, write_json
from unirae.core.log import get_logger
from unirae.flow.times import SHIFT_BASE
from unirae.models.checkpoints.opening import dit_from_checkpoint, rae_from_checkpoint, rae_of_dit
from unirae.models.checkpoints.reading import Checkpoint, open_checkpoint
from unirae.models.denoisers.base import Denoiser
from unirae.models.encoders.hf import HFEncoder
from unirae.models.hf_loading import quiet_transformers
from unirae.models.interop.official.config import DIT_TARGETS, ENCODERS
from unirae.models.interop.official.dit import dit_to_official, official_prediction
from unirae.models.interop.official.names import DECODER_CONSTANTS, DECODER_SIZES, decoder_to_official
from unirae.models.interop.official.raev2 import name_of, resolution_of
from unirae.models.interop.official.text_v2 import text_encoder_name
from unirae.models.interop.official.to_generator_v2 import check_dit_v2, write_dit_v2
from unirae.models.interop.rae_v1 import DEBLOCKING, check_fits_rae_v1
from unirae.models.rae import RAE

log = get_logger(__name__)

_ENCODERS = {kind: (name, accepted[0]) for name, (kind, accepted) in ENCODERS.items()}
"""Our kind: its class, and the parameter that says where the weights lie."""
_REMARK = """\
# Written by unirae. Paths are absolute: the official code looks up relative ones where it is started.
"""


def to_official(
    checkpoint: Checkpoint,
    output: Path,
    *,
    ema: bool = True,
    encoder_weights: str | None = None,
    rae: Path | None = None,
    text_encoder: str | None = None,
) -> None:
    """Convert a model of ours, and write a folder that the official code loads.

    Args:
        checkpoint: of stage 1 or 2.
        output: the folder to write; it must not exist yet.
        ema: take the averaged weights; False takes the raw ones.
        encoder_weights: where the encoder's weights lie, if not where the checkpoint says.
        rae: where a generator's autoencoder lies, if not where its checkpoint says.
        text_encoder: the name or folder of a generator's text encoder that RAEv2 is to load, if not what its checkpoint
            says.

    Raises:
        ConfigError: If the official code cannot express the model; nothing is written then.
        WeightsError: If weights are missing, or not those that the checkpoint says.
    """
    about = checkpoint.about
    if about["kind"] == "stage1":
        autoencoder = rae_from_checkpoint(checkpoint, ema=ema, encoder_weights=encoder_weights)
        rae_about, dit = about, None
    else:
        dit = dit_from_checkpoint(checkpoint, ema=ema)
        autoencoder = rae_of_dit(checkpoint, rae=rae, encoder_weights=encoder_weights)
        rae_about = _about_rae(checkpoint.file, about, rae)
    source = None if encoder_weights is None else str(Path(encoder_weights).expanduser().resolve())
    name = _name_for_raev2(autoencoder, rae_about) if autoencoder.decoder.output == "unit" else None
    worded = None
    if name is not None and dit is not None:
        check_dit_v2(dit)
        worded = text_encoder_name(dit, text_encoder)
    elif text_encoder is not None:
        raise ConfigError(f"{argument('text_encoder', text_encoder)}: only generators of RAEv2 read texts")
    if name is None:
        check_rae(autoencoder, inside=autoencoder.encoder.identity.embedded and source is None)
    final = output.resolve()

    def fill(folder: Path) -> None:
        if name is None:
            stage_1 = _write_rae(folder, final, autoencoder, rae_about, source)
        else:
            stage_1 = _write_rae_v2(folder, final, autoencoder, rae_about, name)
        config: dict[str, Any] = {"stage_1": stage_1}
        if dit is not None and name is None:
            config |= _write_dit(folder, final, checkpoint.file, dit, about)
        elif dit is not None:
            shift = _time_shift(dit, (about.get("origin") or {}).get("config") or {})
            config |= write_dit_v2(folder, final, dit, about, shift=shift, save=_save, text_encoder=worded)
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(_REMARK + text)

    write_folder(output, fill)


def _name_for_raev2(rae: RAE, about: dict[str, Any]) -> str:
    """The name of the encoder for RAEv2, which reads square images decoded from the encoder's own grid."""
    _check_square(rae)
    if rae.decoder.corrects:
        raise ConfigError(f"RAEv2's code cannot hold {DEBLOCKING}; its model would be another one")
    converted_from = (about.get("origin") or {}).get("encoder_name")
    return name_of(rae.encoder.identity, converted_from, rae.encoder_input_size[0])


def check_rae(rae: RAE, *, inside: bool) -> None:
    """Refuse an autoencoder that the official code cannot express.

    Args:
        inside: nothing else than the checkpoint has the encoder's weights.

    Raises:
        ConfigError: If the encoder is another, or sizes are not square.
    """
    check_fits_rae_v1(rae, "the official code of RAE")
    identity = rae.encoder.identity
    if identity.kind not in _ENCODERS:
        raise ConfigError(
            f"the official code has no encoder of kind {identity.kind!r}; it knows {', '.join(_ENCODERS)}"
        )
    sizes = identity.config
    if identity.kind == "dinov2" and sizes.get("num_register_tokens", 0) != 4:
        raise ConfigError("the official code reads DINOv2 with four register tokens alone")
    if identity.kind == "siglip2" and inside:
        raise ConfigError(
            "the official code loads SigLIP with its text half, which an encoder inside a checkpoint lacks; give the "
            f"published model's folder with {argument('encoder_weights')}"
        )
    _check_square(rae)


def _check_square(rae: RAE) -> None:
    height, width = rae.encoder_input_size
    if height != width or rae.decoder.grid != rae.latent_shape[1:]:
        raise ConfigError(
            f"the official code has square images only, decoded from the encoder's own grid; this model reads "
            f"{height}×{width} px to {rae.latent_shape[1]}×{rae.latent_shape[2]} tokens and decodes "
            f"{rae.decoder.grid[0]}×{rae.decoder.grid[1]}"
        )


def _about_rae(file: Path, about: dict[str, Any], given: Path | None) -> dict[str, Any]:
    path = about["rae"]["path"]
    if given is None and path is None:
        return {}
    return open_checkpoint(given or file.parent / path, kind="stage1").about


def _write_rae_v2(folder: Path, final: Path, rae: RAE, about: dict[str, Any], name: str) -> dict[str, Any]:
    """Decoder and statistics for RAEv2, which loads its encoders itself, by their names."""
    log.warning(
        "RAEv2 loads the encoder %s itself: no weights of it are written. This model's have the sha256 %s",
        *(name, rae.encoder.weights_sha256),
    )
    params = {
        "encoder_name": name,
        "resolution": resolution_of(name, rae.encoder_input_size[0]),
        **_write_decoder(folder, final, rae, about),
    }
    return {"target": "stage1.RAE", "params": params | _write_stats(folder, final, rae, "stats.pt")}


def _write_rae(
    folder: Path, final: Path, rae: RAE, about: dict[str, Any], encoder: str | None
) -> dict[str, Any]:
    written = _write_decoder(folder, final, rae, about)
    source = _write_encoder(folder, final, rae, encoder)
    kind, where = _ENCODERS[rae.encoder.identity.kind]
    params = {
        "encoder_cls": kind,
        "encoder_config_path": str(final / "encoder"),
        "encoder_input_size": rae.encoder_input_size[0],
        "encoder_params": {where: source},
        **written,
        "reshape_to_2d": True,
    }
    return {"target": "stage1.RAE", "params": params | _write_stats(folder, final, rae, "stat.pt")}


def _write_decoder(folder: Path, final: Path, rae: RAE, about: dict[str, Any]) -> dict[str, Any]:
    """Write the decoder's weights and configuration; returns the parameters that name them."""
    decoder = rae.decoder.architecture
    sizes = {theirs: decoder[ours] for theirs, ours in DECODER_SIZES.items()}
    vit_mae = {
        "model_type": "vit_mae",
        "architectures": ["ViTMAEForPreTraining"],
        **DECODER_CONSTANTS,
        **sizes,
    }
    (folder / "decoder").mkdir()
    write_json(folder / "decoder/config.json", vit_mae)
    _save(folder / "decoder.pt", decoder_to_official(rae.decoder.state_dict()), about)
    return {
        "decoder_config_path": str(final / "decoder"),
        "decoder_patch_size": rae.decoder.patch_size,
        "pretrained_decoder_path": str(final / "decoder.pt"),
        "noise_tau": rae.noise_tau,
    }


def _write_stats(folder: Path, final: Path, rae: RAE, name: str) -> dict[str, Any]:
    """Write the statistics of latents, if there are any; returns the parameters that name them."""
    params: dict[str, Any] = {}
    if rae.stats.shape is not None:
        save_tensors(folder / name, {"mean": rae.stats.mean, "var": rae.stats.var})
        params["normalization_stat_path"] = str(final / name)
    if rae.stats.eps != LATENT_EPS:
        params["eps"] = rae.stats.eps
    return params


def _write_encoder(folder: Path, final: Path, rae: RAE, given: str | None) -> str:
    """Write ``encoder/``: configuration and pixel statistics, and weights where nothing else has them.

    Returns:
        where the official code is to load its weights from.
    """
    encoder = rae.encoder
    assert isinstance(encoder, HFEncoder)
    backbone: Any = encoder.backbone
    place = folder / "encoder"
    inside = encoder.identity.embedded and given is None
    if inside:
        with quiet_transformers():
            backbone.save_pretrained(place)
    else:
        place.mkdir()
        backbone.config.save_pretrained(place)
    side = rae.encoder_input_size[0]
    processor = {
        "image_processor_type": "BitImageProcessor",
        "image_mean": list(encoder.identity.pixel_mean),
        "image_std": list(encoder.identity.pixel_std),
        "size": {"height": side, "width": side},
    }
    write_json(place / "preprocessor_config.json", processor)
    return str(final / "encoder") if inside else given or encoder.identity.source


def _write_dit(folder: Path, final: Path, file: Path, dit: Denoiser, about: dict[str, Any]) -> dict[str, Any]:
    sampling = about.get("sampling") or {}
    guide: dict[str, Any] = {}
    if sampling.get("guide"):
        guiding = open_checkpoint(file.parent / sampling["guide"], kind="stage2")
        node = _write_network(folder, final, "guide.pt", dit_from_checkpoint(guiding), guiding.about)
        guide = {"guidance_model": node}
    low, high = sampling.get("guidance_interval", (0.0, 1.0))
    if (grid := sampling.get("time_grid", "reference")) != "reference":
        log.warning("this model is sampled on the time grid %s, which the official code does not know", grid)
    return {
        "stage_2": _write_network(folder, final, "stage2_model.pt", dit, about),
        "transport": {
            "params": {
                "path_type": "Linear",
                "prediction": official_prediction(dit),
                "time_dist_type": "logit-normal_0_1",
            }
        },
        "sampler": {"mode": "ODE", "params": _solver(sampling)},
        "guidance": {
            "method": "autoguidance" if guide else "cfg",
            "scale": sampling.get("cfg_scale", 1.0),
            "t_min": low,
            "t_max": high,
            **guide,
        },
        "misc": {
            "latent_size": list(dit.latent_shape),
            "num_classes": dit.num_classes,
            **_time_shift(dit, (about.get("origin") or {}).get("config") or {}),
        },
    }


def _write_network(
    folder: Path, final: Path, name: str, dit: Denoiser, about: dict[str, Any]
) -> dict[str, Any]:
    labelled = (about.get("origin") or {}).get("has_null_label", True)
    _save(folder / name, dit_to_official(dit, has_null_label=labelled), about)
    kind = about["dit"]["kind"]
    arguments = dict(dit.architecture)
    arguments["input_size"] = dit.latent_shape[1]
    return {
        "target": next(target for target, ours in DIT_TARGETS.items() if ours == kind),
        "params": {**arguments, "class_dropout_prob": 0.1 if labelled else 0.0},
        "ckpt": str(final / name),
    }


def _solver(sampling: dict[str, Any]) -> dict[str, Any]:
    solver = sampling.get("solver", "euler")
    ours = solver == "dopri5"  # the others have no tolerance; these are the official file's
    return {
        "sampling_method": {"euler": "euler", "heun": "heun2", "dopri5": "dopri5"}[solver],
        "num_steps": sampling.get("num_steps", 50),
        "atol": 1e-5 if ours else 1e-6,
        "rtol": 1e-5 if ours else 1e-3,
        "reverse": False,
    }


def _time_shift(dit: Denoiser, official: dict[str, Any]) -> dict[str, Any]:
    """Two numbers whose ratio's root is the shift: those of the latents, those it was converted from, or any."""
    said = official.get("misc") or {}
    pairs = [
        (math.prod(dit.latent_shape), SHIFT_BASE),
        (said.get("time_dist_shift_dim"), said.get("time_dist_shift_base", SHIFT_BASE)),
        (dit.time_shift**2 * SHIFT_BASE, SHIFT_BASE),
    ]
    for dimension, base in pairs:
        if dimension is not None and math.isclose(math.sqrt(dimension / base), dit.time_shift, rel_tol=1e-12):
            if dimension < base:
                raise ConfigError(f"time_shift={dit.time_shift:g}: the official code refuses a shift below 1")
            return {"time_dist_shift_dim": dimension, "time_dist_shift_base": base}
    raise AssertionError(pairs)


def _save(file: Path, state: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Save tensors in the type that they were converted from, so that the way there and back changes no bit."""
    origin = about.get("origin") or {}
    usual, others = origin.get("dtype") or "float32", origin.get("dtypes") or {}
    types = {key: getattr(torch, others.get(key, usual)) for key in state}
    save_tensors(file, {k: t.to(types[k]) if t.is_floating_point() else t for k, t in state.items()})
