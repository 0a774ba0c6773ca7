"""Writing our autoencoder as the AutoencoderRAE of diffusers, for its ``from_pretrained``; needs no diffusers.

What that class cannot express is refused before anything is written, with the reason (docs/diffusers.md).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import write_folder
from unirae.core.log import get_logger
from unirae.models.encoders.absent import AbsentEncoder
from unirae.models.encoders.build import KINDS
from unirae.models.encoders.hf import HFEncoder
from unirae.models.encoders.identity import architecture_read
from unirae.models.interop.diffusers.config import CLASS, HEAD_DIM, WITH_POSITIONS, AutoencoderConfig
from unirae.models.interop.diffusers.files import write_config, write_weights
from unirae.models.interop.diffusers.names import POSITIONS, decoder_to_diffusers, old_encoder_name
from unirae.models.interop.diffusers.rae import diffusers_positions
from unirae.models.interop.diffusers.stats import stats_to_diffusers
from unirae.models.interop.official.names import DECODER_SIZES
from unirae.models.interop.rae_v1 import check_fits_rae_v1
from unirae.models.rae import RAE
from unirae.nn.positions import sincos_positions

log = get_logger(__name__)

EncoderNames = Literal["installed", "transformers4"]

_ROUNDING = 1e-6
"""Positions that differ by no more are the same table, computed elsewhere."""

_NO_EFFECT = {"use_mask_token", "pooler_act", "pooler_output_size", "encoder_stride"}
"""Configuration of parts that an encoder does not have, beside what no encoder reads (``architecture_read``)."""


def save_rae_as_diffusers(rae: RAE, folder: str | Path, *, encoder_names: EncoderNames = "installed") -> Path:
    """Write ``config.json`` and ``diffusion_pytorch_model.safetensors``; all of it, or nothing.

    Args:
        folder: a new one.
        encoder_names: diffusers keeps transformers' names for the encoder's tensors and reads no others: those of the
            transformers installed here, or those of version 4, if the reader has that.

    Raises:
        ConfigError: If diffusers cannot build this autoencoder.
        WeightsError: If the autoencoder was opened without its encoder; or if its positions are trained, which
            diffusers would drop.
        UserError: If the folder exists or cannot be written.
    """
    config = autoencoder_config(rae)
    check_positions(rae)
    return write_folder(
        folder, lambda new: write_autoencoder(rae, config, new, class_name=CLASS, encoder_names=encoder_names)
    )


def has_diffusers_positions(rae: RAE) -> bool:
    """Say whether this decoder adds diffusers' table to its tokens; there is none for grids that are not square."""
    rows, columns = rae.decoder.grid
    return rows == columns and _distance(rae.decoder.positions, _table(rae)) <= _ROUNDING


def check_positions(rae: RAE) -> None:
    """Refuse positions that AutoencoderRAE would replace.

    Raises:
        WeightsError: If the positions differ from diffusers' table; the message says by how much.
    """
    if has_diffusers_positions(rae):
        return
    difference = _distance(rae.decoder.positions, _table(rae))
    width, grid = rae.decoder.positions.shape[-1], rae.decoder.grid
    untrained = _distance(rae.decoder.positions[:, 1:], sincos_positions(width, grid)[None]) <= _ROUNDING
    cause = (
        f"they are the sin-cos table of a {grid[0]}×{grid[1]} grid, but diffusers stretches the coordinates of every "
        "grid to 16×16"
        if untrained
        else "they are trained with the decoder"
    )
    raise WeightsError(
        f"diffusers' AutoencoderRAE drops the decoder's positions and computes a sin-cos table instead; these differ "
        f"from it by up to {difference:.3g} ({cause}), so its pictures would be other ones. A pipeline keeps them: "
        "save_dit_pipeline(…) brings a subclass of AutoencoderRAE"
    )


def autoencoder_config(rae: RAE, *, own_encoder: bool = False) -> AutoencoderConfig:
    """The arguments that make diffusers build this autoencoder.

    Args:
        own_encoder: whether they are for our subclass, which builds encoders of other sizes, too.

    Raises:
        ConfigError: If there are no such arguments; the message says what differs.
        WeightsError: If the encoder was not loaded.
    """
    _check_square(rae)
    encoder, decoder = rae.encoder, rae.decoder.architecture
    kind = encoder.identity.kind
    if isinstance(encoder, AbsentEncoder):
        raise WeightsError(
            "the encoder was not loaded, but AutoencoderRAE holds its weights: open the autoencoder with its encoder"
        )
    if kind not in ("dinov2", "siglip2", "mae") or not isinstance(encoder, HFEncoder):
        raise ConfigError(f"diffusers has the encoders dinov2, siglip2 and mae; this one is of kind {kind}")
    check_fits_rae_v1(rae, "diffusers' AutoencoderRAE")
    mean, std = stats_to_diffusers(rae.stats)
    config = AutoencoderConfig(
        encoder_type=kind,
        encoder_hidden_size=encoder.width,
        encoder_patch_size=encoder.patch_size,
        encoder_num_hidden_layers=encoder.identity.config["num_hidden_layers"],
        **{theirs: decoder[ours] for theirs, ours in DECODER_SIZES.items()},
        patch_size=decoder["patch_size"],
        encoder_input_size=rae.encoder_input_size[0],
        image_size=rae.output_size[0],
        encoder_norm_mean=list(encoder.identity.pixel_mean),
        encoder_norm_std=list(encoder.identity.pixel_std),
        latents_mean=None if mean.numel() == 1 else _numbers(mean),
        latents_std=None if std.numel() == 1 else _numbers(std),
        noise_tau=rae.noise_tau,
    )
    config = _with_encoder(encoder, config, own_encoder=own_encoder)
    if rae.noise_tau and rae.noise_kind != "uniform":
        log.warning("noise_kind=%s: a decoder trained further in diffusers has uniform noise", rae.noise_kind)
    return config


def write_autoencoder(
    rae: RAE,
    config: AutoencoderConfig,
    folder: Path,
    *,
    class_name: str,
    encoder_names: EncoderNames,
) -> None:
    """Both files into an existing folder."""
    kind = config.encoder_type
    mean, std = stats_to_diffusers(rae.stats)
    tensors = {
        "encoder_mean": rae.encoder.mean.view(1, 3, 1, 1),
        "encoder_std": rae.encoder.std.view(1, 3, 1, 1),
        "_latents_mean": mean,
        "_latents_std": std,
    }
    old_names = encoder_names == "transformers4" or kind == "siglip2"  # where diffusers insists on them
    for name, tensor in rae.encoder.backbone.state_dict().items():
        tensors[f"encoder.{old_encoder_name(kind, name) if old_names else name}"] = tensor
    if kind == "siglip2":
        tensors |= _unused_head(config.encoder_hidden_size, rae.encoder.identity.config["intermediate_size"])
    inside = decoder_to_diffusers(rae.decoder.state_dict())
    if class_name == WITH_POSITIONS:
        inside[POSITIONS] = rae.decoder.positions
    tensors |= {f"decoder.{name}": tensor for name, tensor in inside.items()}
    write_weights(folder, {name: tensor.float() for name, tensor in tensors.items()})
    write_config(folder / "config.json", config.to_dict(class_name))


def _check_square(rae: RAE) -> None:
    height, width = rae.encoder_input_size
    if height != width:
        raise ConfigError(f"diffusers reads square images only; this encoder reads {height}×{width} px")
    if rae.decoder.grid != rae.latent_shape[1:]:
        raise ConfigError(
            f"diffusers' decoder has the encoder's grid of tokens, {rae.latent_shape[1]}×{rae.latent_shape[2]}; this "
            f"one decodes {rae.decoder.grid[0]}×{rae.decoder.grid[1]} (to {rae.output_size[0]}×{rae.output_size[1]} px)"
        )


def _with_encoder(encoder: HFEncoder, config: AutoencoderConfig, *, own_encoder: bool) -> AutoencoderConfig:
    """Compare the backbone's configuration with the one that diffusers would make; add it where they differ."""
    own, kind = encoder.identity.config, config.encoder_type
    theirs = config.diffusers_architecture
    if own["model_type"] != theirs["model_type"]:
        raise ConfigError(
            f"diffusers' {kind} is a {theirs['model_type']}; this encoder is a {own['model_type']}"
        )
    width, heads = encoder.width, theirs["num_attention_heads"]
    if not heads or width % heads:
        raise ConfigError(
            f"diffusers cannot begin to build an encoder of width {width}: it makes width // {HEAD_DIM} heads, "
            f"{heads}, which must divide the width"
        )
    built = KINDS[kind].configure(theirs).to_dict()
    different = {
        key: (value, built.get(key))
        for key, value in architecture_read(kind, own).items()
        if key not in _NO_EFFECT and value != built.get(key)
    }
    if not different:
        return config
    if own_encoder and "num_register_tokens" not in different:  # diffusers cuts off four of them, always
        return replace(config, encoder_config=own)
    says = ", ".join(f"{key}={ours} (diffusers: {theirs})" for key, (ours, theirs) in different.items())
    raise ConfigError(
        f"diffusers cannot build this {kind} encoder: {says}. It takes only width, depth and patch "
        f"size, makes heads of {HEAD_DIM} numbers and leaves the rest at transformers' defaults"
        + ("" if own_encoder else "; the pipeline of a generator that was trained on it carries its own")
    )


def _unused_head(width: int, mlp_width: int) -> dict[str, Tensor]:
    """SigLIP's pooling head, which diffusers builds and never asks; we have none, so zeros."""
    shapes = {
        "probe": (1, 1, width),
        "attention.in_proj_weight": (3 * width, width),
        "attention.in_proj_bias": (3 * width,),
        "attention.out_proj.weight": (width, width),
        "attention.out_proj.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
        "mlp.fc1.weight": (mlp_width, width),
        "mlp.fc1.bias": (mlp_width,),
        "mlp.fc2.weight": (width, mlp_width),
        "mlp.fc2.bias": (width,),
    }
    return {f"encoder.vision_model.head.{name}": torch.zeros(shape) for name, shape in shapes.items()}


def _table(rae: RAE) -> Tensor:
    return diffusers_positions(rae.decoder.positions.shape[-1], rae.decoder.grid[0])


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a.detach().cpu().float() - b).abs().max())


def _numbers(tensor: Tensor) -> Any:
    """Convert to nested lists."""
    return tensor.double().apply_(lambda value: float(f"{value:.9g}")).tolist()
