"""Conversion of a configuration of the official RAE code and its weights to a folder of ours."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from unirae.core.arguments import argument, called
from unirae.core.errors import ConfigError
from unirae.core.io import file_sha256, write_folder
from unirae.core.log import get_logger
from unirae.core.strict import check_fit, load_strictly
from unirae.core.version import __version__
from unirae.core.weights import carried_folder
from unirae.models.checkpoints.making import dit_content, model_config, rae_content
from unirae.models.checkpoints.model_folder import write_model_folder
from unirae.models.checkpoints.pairing import rae_reference
from unirae.models.decoder import ViTDecoder
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.build import build_denoiser
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import build_encoder, embedded
from unirae.models.encoders.dinov3_hub import from_hub_names
from unirae.models.encoders.discover import config_file
from unirae.models.encoders.hf import HFEncoder
from unirae.models.interop.official.config import (
    OfficialDit,
    OfficialRae,
    check_sections,
    is_version_2,
    read_dit,
    read_rae,
    section,
    value,
)
from unirae.models.interop.official.dit import dit_from_official, dit_to_official
from unirae.models.interop.official.dit_v2 import dit_v2_from_official, dit_v2_to_official
from unirae.models.interop.official.files import (
    check_encoder,
    read_stats,
    stored_types,
)
from unirae.models.interop.official.generator_v2 import read_dit_v2, read_sampling_v2
from unirae.models.interop.official.names import (
    DECODER_CONSTANTS,
    DECODER_SIZES,
    decoder_from_official,
    decoder_to_official,
    split_rae,
)
from unirae.models.interop.official.place import OfficialModel
from unirae.models.interop.official.sampling import read_sampling
from unirae.models.interop.official.text_v2 import check_text_length, read_texts
from unirae.models.rae import RAE, token_grid

log = get_logger(__name__)

_PROGRAM = {"program": "bytetriper/RAE", "version": __version__}
_PROGRAM_V2 = {"program": "nanovisionx/RAEv2", "version": __version__}
_REGISTERS = 4
"""The official code drops five tokens of any DINOv2: the class token and four registers."""


def from_official(conversion: OfficialModel, document: Any, output: Path, *, data: dict[str, Any]) -> None:
    """Convert a model of the official code, and write it as a folder of ours.

    Args:
        document: the content of its YAML file, as plain values.
        output: the folder to write; it must not exist yet.
        data: the configuration of the data that the model was trained on.

    Raises:
        ConfigError, WeightsError: If something is missing, damaged, unknown or does not fit; nothing is written then.
    """
    check_sections(document)
    version = 2 if is_version_2(document) else 1
    log.info("%s is a configuration of RAE%s", conversion.config, "v2" if version == 2 else "")
    dit = None
    if document.get("stage_2"):
        dit = read_dit(document["stage_2"]) if version == 1 else read_dit_v2(document)
    if conversion.text_encoder is not None and (dit is None or not dit.text_length):
        raise ConfigError(
            f"{argument('text_encoder', conversion.text_encoder)}: nothing in {conversion.config} reads texts"
        )
    rae, rae_origin = _convert_rae(conversion, document, trained=dit is None)
    recorded = {"model": model_config(rae), "data": data}
    rae_made = rae_content(
        rae, config=recorded, origin=rae_origin, weights=conversion.weights if dit is None else "ema"
    )
    made, parts = rae_made, {}
    if dit is not None:
        made, guide = _convert_generator(conversion, document, dit, rae, recorded)
        parts = {"rae": rae_made, **guide}
    write_folder(output, partial(write_model_folder, content=made, parts=parts))


def _convert_generator(
    conversion: OfficialModel,
    document: Mapping[str, Any],
    dit: OfficialDit,
    rae: RAE,
    recorded: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Convert the diffusion transformer, and its guide where it has one, which is named ``guide``."""
    sampling = read_sampling(document, dit) if dit.version == 1 else read_sampling_v2(document, dit)
    settings, shift = dict(sampling.settings), sampling.time_shift
    content = partial(dit_content, class_names=[], config=recorded)
    made, origin = _convert_dit(conversion, dit, rae, shift, key="stage_2", trained=True)
    guide = {}
    if sampling.guide is not None:
        settings["guide"] = "guide"
        network, its_origin = _convert_dit(
            conversion, sampling.guide, rae, shift, key="guidance.guidance_model"
        )
        reference = rae_reference(rae, path="../rae")
        guide["guide"] = content(network, rae_reference=reference, origin=its_origin, sampling=None)
    training = section(document, "training")
    decay = None
    if conversion.weights == "ema" and training.get("ema_decay") is not None:
        decay = float(value(training, "ema_decay", "training", default=0.0))
    main = content(
        made,
        origin={**origin, "config": dict(document)},
        rae_reference=rae_reference(rae, path="rae"),
        sampling=settings or None,
        ema_decay=decay,
        weights=conversion.weights,
    )
    return main, guide


def _convert_rae(
    conversion: OfficialModel, document: Mapping[str, Any], *, trained: bool
) -> tuple[RAE, dict[str, Any]]:
    official = read_rae(document)
    # files before the encoder, which may have to be fetched
    state, source = _rae_weights(conversion, official, trained=trained)
    own, inside = split_rae(state, what=str(source))
    stats_key = "stage_1.params.normalization_stat_path"
    named = official.params["normalization_stat_path"]
    stats_file = None if named is None else conversion.find(named, stats_key)
    encoder = _build_encoder(conversion, official)
    decoder = _build_decoder(conversion, official, encoder)
    check_fit(
        own,
        decoder_to_official(decoder.state_dict()),
        what=f"decoder of {conversion.config} ({source})",
    )
    check_encoder(encoder, _inside(official, inside), source, official.encoder_source)
    load_strictly(decoder, decoder_from_official(own), what=f"decoder ({source})")
    stats = None
    if stats_file is not None:
        conversion.files["statistics"] = {"file": stats_file.name, "sha256": file_sha256(stats_file)}
        stats = read_stats(stats_file, eps=float(official.params["eps"]))
        if official.version == 2:
            log.info(
                "%s does not say of which encoder and blocks it is: it must be those of the YAML", stats_file
            )
    rae = RAE(
        encoder=encoder,
        decoder=decoder,
        encoder_input_size=official.input_size,
        noise_tau=float(official.params["noise_tau"]),
        stats=stats,
    )
    origin = {**_program(official), "files": dict(conversion.files), **stored_types(own)}
    return rae.eval().requires_grad_(False), origin


def _inside(official: OfficialRae, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors that a whole autoencoder carries, under names that can be compared; empty where none can.

    RAEv2 holds DINOv3 in its hub's names and with the affine part of its norm, which may not be used; of other families
    it holds names that are not known here.
    """
    if official.version == 1 or not state:
        return state
    if official.encoder_kind != "dinov3":
        log.warning("the encoder inside the checkpoint is not compared with the one that is loaded")
        return {}
    kept = official.reading.get("norm_affine", False)
    return {key: t for key, t in from_hub_names(state).items() if kept or not key.startswith("norm.")}


def _program(official: OfficialRae) -> dict[str, str]:
    """The program that a model comes from, and the name that RAEv2 has for its encoder."""
    if official.version == 1:
        return _PROGRAM
    return {**_PROGRAM_V2, "encoder_name": official.params["encoder_name"]}


def _rae_weights(
    conversion: OfficialModel, official: OfficialRae, *, trained: bool
) -> tuple[dict[str, Tensor], Path]:
    key, path = "stage_1.ckpt", official.checkpoint
    if path is None:
        key = "stage_1.params.pretrained_decoder_path"
        path = official.params["pretrained_decoder_path"]
    missing = (
        f"{conversion.config} names no weights of the decoder: set stage_1.params.pretrained_decoder_path (or, for a "
        f"configuration of stage 1, give {argument('checkpoint')})"
    )
    file = conversion.source(path, key, what="the autoencoder's weights", missing=missing, trained=trained)
    return conversion.read(file, "stage_1", trained=trained), file


def _build_encoder(conversion: OfficialModel, official: OfficialRae) -> Encoder:
    local = conversion.find_local(official.encoder_source)
    source = conversion.encoder_weights or (str(local) if local else "hub")
    reading = dict(official.reading)
    named = official.params.get("encoder_config_path", official.encoder_source)
    if (
        named != official.encoder_source
    ):  # else mean and std are the encoder's own, which are beside its weights
        pixels = conversion.find_local(named) or carried_folder(named)
        reading["mean"], reading["std"] = HFEncoder.pixel_statistics(str(pixels or named), required=True)
    name = Path(official.encoder_source).name if local else official.encoder_source
    with called({"encoder.layers": "stage_1.params.encoder_name: layers"}):
        encoder = build_encoder(
            kind=official.encoder_kind,
            name=name,
            weights=source,
            **reading,
            remedy=f"It is the encoder of {conversion.config}: give its folder with "
            f"{argument('encoder_weights', 'DIR')} (fetched where there is a network "
            f"with `hf download {official.encoder_source} --local-dir DIR`)",
        )
    sizes = encoder.identity.config
    registers = sizes.get("num_register_tokens", _REGISTERS)
    plain = sizes.get("model_type") == "dinov2"
    if official.encoder_kind == "dinov2" and (plain or registers != _REGISTERS):
        raise ConfigError(
            f"{official.encoder_source} has {0 if plain else registers} register tokens; the official code reads "
            f"DINOv2 with {_REGISTERS} alone"
        )
    return embedded(encoder) if conversion.embed_encoder else encoder


def _build_decoder(conversion: OfficialModel, official: OfficialRae, encoder: Encoder) -> ViTDecoder:
    params = official.params
    file = config_file(str(conversion.find_local(named := params["decoder_config_path"]) or named))
    try:
        sizes = json.loads(file.read_text())
        ours: dict[str, Any] = {name: int(sizes[key]) for key, name in DECODER_SIZES.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is no configuration of a ViTMAE decoder: {error}") from None
    for key, needed in DECODER_CONSTANTS.items():
        if sizes.get(key, needed) != needed:
            raise ConfigError(
                f"{file}: {key}={sizes[key]}; decoders here have {needed}, as all published ones"
            )
    return ViTDecoder(
        **ours,
        token_dim=encoder.width,
        patch_size=params["decoder_patch_size"],
        grid=token_grid(official.input_size, encoder.patch_size),
        output="encoder_pixels" if official.version == 1 else "unit",
    )


def _convert_dit(
    conversion: OfficialModel,
    official: OfficialDit,
    rae: RAE,
    time_shift: float,
    *,
    key: str,
    trained: bool = False,
) -> tuple[Denoiser, dict[str, Any]]:
    checkpoint = conversion.source(
        official.checkpoint,
        f"{key}.ckpt",
        what=f"the weights of {key}",
        missing=f"{key} has no ckpt: give its weights with {argument('checkpoint', 'FILE')}, or set {key}.ckpt",
        trained=trained,
    )
    state, what = conversion.read(checkpoint, key, trained=trained), f"{key} ({checkpoint})"
    check_text_length(state, official, what)
    denoiser = build_denoiser(
        official.kind,
        **official.arguments,
        **read_texts(conversion, official),
        time_shift=time_shift,
        latent_stats=rae.stats,
    )
    if denoiser.latent_shape != rae.latent_shape:
        raise ConfigError(
            f"{key} reads latents {denoiser.latent_shape}, but stage_1 makes {rae.latent_shape}: set in_channels and "
            "input_size to those"
        )
    labelled = official.has_null_label
    if official.version == 2:
        state = _without_projector(state)
        check_fit(state, dit_v2_to_official(denoiser, text_length=official.text_length), what=what)
        ours = dit_v2_from_official(state, denoiser)
    else:
        check_fit(state, dit_to_official(denoiser, has_null_label=labelled), what=what)
        ours = dit_from_official(state, trunk_depth=official.trunk_depth, has_null_label=labelled)
    stats = {f"latent_stats.{name}": t for name, t in denoiser.latent_stats.state_dict().items()}
    load_strictly(denoiser, ours | stats, what=what)
    if not labelled:
        log.warning(
            "%s: no label for none was trained (class_dropout_prob 0): do not guide it without label", key
        )
    origin = {
        **(_PROGRAM if official.version == 1 else _PROGRAM_V2),
        "files": {key: conversion.files[key]},
        **stored_types(state),
        "has_null_label": labelled,
    }
    return denoiser.eval().requires_grad_(False), origin


def _without_projector(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network without the layer that REPA trains it through, which nothing else uses."""
    kept = {key: tensor for key, tensor in state.items() if not key.startswith("repa_projector.")}
    if len(kept) < len(state):
        log.info("repa_projector is left out: REPA's loss alone reads it")
    return kept
