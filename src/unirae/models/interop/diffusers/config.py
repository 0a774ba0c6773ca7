"""Schema of ``config.json`` of diffusers' AutoencoderRAE (0.37 to 0.42), and the encoders that it builds.

Written down here rather than asked of diffusers, so that reading needs no diffusers and an unknown key is an error.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import read_json

CLASS = "AutoencoderRAE"
WITH_POSITIONS = "AutoencoderRAEWithPositions"
"""Our subclass of it, inside the pipelines that we write: the positions are weights, as they are trained, and the
encoder may have other sizes than diffusers gives it."""

DIFFUSERS_VERSION = "0.37.0"
"""The first with AutoencoderRAE; what the files that we write state."""

STD_EPS = 1e-5
"""Theirs: (z − mean) / (std + ε)."""

HEAD_DIM = 64
_ENCODERS: dict[str, dict[str, Any]] = {
    "dinov2": {"model_type": "dinov2_with_registers", "image_size": 518},
    "siglip2": {"model_type": "siglip_vision_model", "image_size": 256},
    "mae": {"model_type": "vit_mae", "image_size": 224},
}


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """The arguments of diffusers' class, with its defaults.

    Attributes:
        encoder_config: of our subclass alone: the encoder's transformers configuration, where it is not the one that
            diffusers makes.
    """

    encoder_type: str = "dinov2"
    encoder_hidden_size: int = 768
    encoder_patch_size: int = 14
    encoder_num_hidden_layers: int = 12
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 8
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2048
    patch_size: int = 16
    encoder_input_size: int = 224
    image_size: int | None = None
    num_channels: int = 3
    encoder_norm_mean: list[float] | None = None
    encoder_norm_std: list[float] | None = None
    latents_mean: list[Any] | None = None
    latents_std: list[Any] | None = None
    noise_tau: float = 0.0
    reshape_to_2d: bool = True
    use_encoder_loss: bool = False
    scaling_factor: float = 1.0
    encoder_config: dict[str, Any] | None = None

    @property
    def grid(self) -> int:
        """Side of the square of tokens."""
        return self.encoder_input_size // self.encoder_patch_size

    @property
    def encoder_architecture(self) -> dict[str, Any]:
        """The transformers configuration of the encoder; keys that are not named here have transformers' default."""
        return self.encoder_config or self.diffusers_architecture

    @property
    def diffusers_architecture(self) -> dict[str, Any]:
        """The architecture of the encoder that diffusers makes of width, depth and patch size."""
        return {
            **_ENCODERS[self.encoder_type],
            "hidden_size": self.encoder_hidden_size,
            "patch_size": self.encoder_patch_size,
            "num_hidden_layers": self.encoder_num_hidden_layers,
            "num_attention_heads": self.encoder_hidden_size // HEAD_DIM,
        }

    def to_dict(self, class_name: str) -> dict[str, Any]:
        """The arguments in the form of ``config.json``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.encoder_config is None:
            del values["encoder_config"]
        return {"_class_name": class_name, "_diffusers_version": DIFFUSERS_VERSION, **values}


def read_autoencoder_config(folder: Path) -> tuple[AutoencoderConfig, str]:
    """The checked configuration in a folder of diffusers, and the class that it names.

    Raises:
        WeightsError: If the configuration is of another class, or there is none.
        ConfigError: If there is a key that diffusers does not have, or a value that it or we cannot build.
    """
    content = read_config(folder, hint="give the folder of the autoencoder itself, such as PIPELINE/vae")
    class_name = content.get("_class_name")
    if class_name not in (CLASS, WITH_POSITIONS):
        raise WeightsError(f"{folder / 'config.json'} is of {class_name}, not of diffusers' {CLASS}")
    values = {key: value for key, value in content.items() if not key.startswith("_")}
    known = {field.name for field in fields(AutoencoderConfig)}
    if unknown := values.keys() - (known if class_name == WITH_POSITIONS else known - {"encoder_config"}):
        raise ConfigError(
            f"{folder / 'config.json'}: {CLASS} has no {', '.join(sorted(unknown))}. Was it written by a newer "
            "diffusers? What the key means is unknown here, so it is not ignored"
        )
    config = AutoencoderConfig(**values)
    _check(config, folder / "config.json")
    return config, class_name


def read_config(folder: Path, *, hint: str) -> dict[str, Any]:
    """Read a folder's ``config.json``.

    Raises:
        WeightsError: If there is no configuration; ``hint`` says what would be right.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise WeightsError(f"no such file: {file}; {hint}")
    content = read_json(file)
    if not isinstance(content, dict):
        raise WeightsError(f"{file} is no configuration of diffusers")
    return content


def _check(config: AutoencoderConfig, file: Path) -> None:
    """Refuse values that cannot be built, with the reason."""
    if not isinstance(config.encoder_type, str) or config.encoder_type not in _ENCODERS:
        raise ConfigError(
            f"{file}: encoder_type={config.encoder_type!r} is unknown; diffusers has {', '.join(_ENCODERS)}"
        )
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type == "int" or field.type is int:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{file}: {field.name}={value} must be a whole number of at least 1")
        elif field.name in ("noise_tau", "scaling_factor") and not isinstance(value, int | float):
            raise ConfigError(f"{file}: {field.name}={value} must be a number")
    if config.encoder_config is not None:
        _check_encoder_config(config, file)
    if config.num_channels != 3:
        raise ConfigError(f"{file}: num_channels={config.num_channels}; images here are RGB, with 3 channels")
    if config.reshape_to_2d is not True:
        raise ConfigError(
            f"{file}: reshape_to_2d=false makes latents a list of tokens (b, n, c); here they are maps (b, c, h, w). "
            "The weights are the same: set reshape_to_2d to true and the statistics to that shape"
        )
    if not 0 < config.scaling_factor < float("inf"):
        raise ConfigError(f"{file}: scaling_factor={config.scaling_factor} must be positive")
    if config.encoder_config is None and config.encoder_hidden_size < HEAD_DIM:
        raise ConfigError(
            f"{file}: encoder_hidden_size={config.encoder_hidden_size} leaves the encoder without heads: diffusers "
            f"makes one of every {HEAD_DIM} numbers"
        )
    derived = config.patch_size * config.grid
    if config.image_size not in (None, derived):
        raise ConfigError(
            f"{file}: image_size={config.image_size} must be patch_size times the tokens' grid, {derived}"
        )


def _check_encoder_config(config: AutoencoderConfig, file: Path) -> None:
    """Refuse an encoder that is not of the kind, width, depth and patch size that the other keys say."""
    own, said = config.encoder_config, config.diffusers_architecture
    if not isinstance(own, dict):
        raise ConfigError(f"{file}: encoder_config={own!r} must be keys and values, or null")
    for key in ("model_type", "hidden_size", "patch_size", "num_hidden_layers"):
        if own.get(key) != said[key]:
            raise ConfigError(
                f"{file}: encoder_config.{key}={own.get(key)!r} must be {said[key]!r}, as beside it"
            )
