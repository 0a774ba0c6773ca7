"""Reading the AutoencoderRAE of diffusers, from the folder that its ``save_pretrained`` writes; needs no diffusers.

Everything that it computes is kept, or reading stops with the reason (docs/diffusers.md). The encoder's weights are in
the file, so they travel inside our checkpoints, too.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from unirae.core.errors import WeightsError
from unirae.core.log import get_logger
from unirae.core.strict import load_strictly, raise_on_differences
from unirae.models.checkpoints.model_folder import part
from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import build_encoder
from unirae.models.encoders.grid import check_divisible
from unirae.models.interop.diffusers.config import WITH_POSITIONS, AutoencoderConfig, read_autoencoder_config
from unirae.models.interop.diffusers.files import read_weights
from unirae.models.interop.diffusers.names import (
    POSITIONS,
    decoder_from_diffusers,
    decoder_to_diffusers,
    old_encoder_name,
)
from unirae.models.interop.diffusers.stats import stats_from_diffusers
from unirae.models.interop.official.names import DECODER_SIZES
from unirae.models.rae import RAE

log = get_logger(__name__)

_BUFFERS = ("encoder_mean", "encoder_std", "_latents_mean", "_latents_std")
_POSITIONS_KEY = f"decoder.{POSITIONS}"
_BASE_GRID = 16
"""diffusers stretches every grid to these coordinates before it computes sines."""


def rae_from_diffusers(folder: str | Path, *, variant: str | None = None) -> RAE:
    """The autoencoder in a diffusers folder, in eval mode, without gradients.

    Args:
        folder: with ``config.json`` (of AutoencoderRAE) and ``diffusion_pytorch_model.safetensors``, or its parts.
        variant: of the weight files, such as "fp16"; they are read as float32.

    Raises:
        WeightsError: If files are missing or damaged; or if a tensor is missing, unexpected or of another
            shape.
        ConfigError: If the configuration has an unknown key, or what we cannot express.
    """
    folder = Path(folder).expanduser()
    config, class_name = read_autoencoder_config(folder)
    check_divisible("encoder_input_size", config.encoder_input_size, config.encoder_patch_size)
    tensors = read_weights(folder, variant=variant)
    encoder = _random_encoder(config, tensors, folder)
    decoder = _random_decoder(config)
    _check_keys(tensors, encoder, decoder, trained_positions=class_name == WITH_POSITIONS)

    kind = config.encoder_type
    weights = {old_encoder_name(kind, key): tensor for key, tensor in part(tensors, "encoder").items()}
    named = {own: weights[old_encoder_name(kind, own)] for own in encoder.backbone.state_dict()}
    load_strictly(encoder.backbone, named, what="encoder")
    # with an identity of its own: these are no longer the random weights that it was built with
    encoder = type(encoder)(
        backbone=encoder.backbone,
        identity=replace(encoder.identity, weights="path", source=str(folder.resolve())),  # pyright: ignore[reportCallIssue]
    )
    positions = _positions(tensors, decoder, trained=class_name == WITH_POSITIONS)
    inside = {key: tensor for key, tensor in part(tensors, "decoder").items() if key != POSITIONS}
    load_strictly(decoder, decoder_from_diffusers(inside, positions=positions), what="decoder")
    stats = stats_from_diffusers(
        tensors["_latents_mean"],
        tensors["_latents_std"],
        scaling_factor=config.scaling_factor,
        latent_shape=(encoder.width, config.grid, config.grid),
    )
    rae = RAE(
        encoder=encoder,
        decoder=decoder,
        encoder_input_size=config.encoder_input_size,
        noise_tau=float(config.noise_tau),
        stats=stats,
    )
    return rae.eval().requires_grad_(False)


def diffusers_positions(width: int, grid: int) -> Tensor:
    """The table (1, 1 + n, d) that diffusers adds to the decoder's tokens; zero for the class token.

    It is MAE's 2-d sin-cos table, of coordinates index / (grid / 16): on a 16×16 grid MAE's own, on others stretched.
    The order of the operations is theirs, so that no digit differs.
    """
    coordinates = torch.arange(grid, dtype=torch.float32) / (grid / _BASE_GRID)
    exponents = torch.arange(width // 4, dtype=torch.float64) / (width / 4)
    angles = coordinates.double()[:, None] * (1.0 / 10_000**exponents)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    table = torch.cat([waves.repeat(grid, 1), waves.repeat_interleave(grid, 0)], dim=1)
    return torch.cat([torch.zeros(1, width), table.float()])[None]


def _random_encoder(config: AutoencoderConfig, tensors: dict[str, Tensor], folder: Path) -> Encoder:
    pixel = {name: tensors.get(f"encoder_{name}", torch.ones(3)) for name in ("mean", "std")}
    if any(values.numel() != 3 for values in pixel.values()) or bool((pixel["std"] <= 0).any()):
        raise WeightsError(
            f"{folder}: encoder_mean and encoder_std must be three numbers, the latter positive"
        )
    return build_encoder(
        kind=config.encoder_type,
        name=f"{config.encoder_type} of {folder.resolve().name}",
        weights="random",
        architecture=config.encoder_architecture,
        mean=pixel["mean"].flatten().tolist(),
        std=pixel["std"].flatten().tolist(),
    )


def _random_decoder(config: AutoencoderConfig) -> ViTDecoder:
    sizes = {ours: getattr(config, theirs) for theirs, ours in DECODER_SIZES.items()}
    grid = (config.grid, config.grid)
    return ViTDecoder(**sizes, token_dim=config.encoder_hidden_size, patch_size=config.patch_size, grid=grid)


def _check_keys(
    tensors: dict[str, Tensor], encoder: Encoder, decoder: ViTDecoder, *, trained_positions: bool
) -> None:
    """Every tensor that diffusers' model has, no other, each of its shape; named as in the file."""
    kind = encoder.identity.kind
    expected = {
        f"decoder.{key}": tensor for key, tensor in decoder_to_diffusers(decoder.state_dict()).items()
    }
    expected |= {
        f"encoder.{old_encoder_name(kind, name)}": tensor
        for name, tensor in encoder.backbone.state_dict().items()
    }
    shapes = {key: tuple(tensor.shape) for key, tensor in expected.items()}
    shapes |= {"encoder_mean": (1, 3, 1, 1), "encoder_std": (1, 3, 1, 1)}
    if trained_positions:
        shapes[_POSITIONS_KEY] = tuple(decoder.positions.shape)
    in_file = {_old_key(kind, key): key for key in tensors}
    ignored = {key for key in in_file if _is_ignored(kind, key)}
    needed = shapes.keys() | set(_BUFFERS)
    raise_on_differences(
        "AutoencoderRAE",
        missing=needed - in_file.keys(),
        unexpected={in_file[key] for key in in_file.keys() - needed - ignored},
        mismatched={
            f"{in_file[key]} {tuple(tensors[in_file[key]].shape)} instead of {shape}"
            for key, shape in shapes.items()
            if key in in_file and tuple(tensors[in_file[key]].shape) != shape
        },
    )


def _old_key(kind: str, key: str) -> str:
    return f"encoder.{old_encoder_name(kind, key[8:])}" if key.startswith("encoder.") else key


def _is_ignored(kind: str, key: str) -> bool:
    """Say whether the output of diffusers' model does not depend on a tensor: SigLIP's pooling head, positions."""
    return key == _POSITIONS_KEY or (kind == "siglip2" and key.startswith("encoder.vision_model.head."))


def _positions(tensors: dict[str, Tensor], decoder: ViTDecoder, *, trained: bool) -> Tensor:
    """The table of diffusers, also where the file has others, for that is what diffusers computes with."""
    stored = tensors.get(_POSITIONS_KEY)
    if trained:
        assert stored is not None  # checked with the other keys
        return stored
    table = diffusers_positions(decoder.positions.shape[-1], decoder.grid[0])
    if stored is not None:
        same_shape = stored.shape == table.shape
        difference = float((stored - table).abs().max()) if same_shape else float("inf")
        if difference > 0:
            log.warning(
                "the file's %s differs from the sin-cos table by up to %.3g and is ignored, as diffusers does. If the "
                "positions were trained, reconstruction suffers: convert the checkpoint that the file was made from",
                _POSITIONS_KEY,
                difference,
            )
    return table
