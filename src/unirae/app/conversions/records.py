"""What conversions read and record beside weights: YAML files, and the configuration that a run would have had."""

from pathlib import Path
from typing import Any

from unirae.core.errors import ConfigError
from unirae.models.rae import RAE


def model_config(rae: RAE) -> dict[str, Any]:
    """What a run's configuration would say of this autoencoder under ``model``."""
    identity = rae.encoder.identity
    decoder = {k: v for k, v in rae.decoder.architecture.items() if k not in ("token_dim", "grid")}
    return {
        "encoder": {
            "kind": identity.kind,
            "name": identity.name,
            "weights": "hub" if identity.weights == "hub" else identity.source,
            "architecture": identity.config,
            "mean": list(identity.pixel_mean),
            "std": list(identity.pixel_std),
            "remedy": None,
        },
        "decoder": {
            "_target_": "unirae.models.decoder.ViTDecoder",
            **decoder,
            "gradient_checkpointing": False,
        },
        "image_size": rae.encoder_input_size[0]
        if rae.encoder_input_size[0] == rae.encoder_input_size[1]
        else list(rae.encoder_input_size),
    }


def read_yaml(path: Path) -> Any:
    """A YAML file as plain values, its interpolations resolved.

    Raises:
        ConfigError: it is missing or not valid.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not path.is_file():
        raise ConfigError(f"--config {path}: no such file")
    try:
        return _plain(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"--config {path} is not valid YAML: {str(error).splitlines()[0]}") from None


def _plain(value: Any) -> Any:
    """Paths, for which YAML has a tag of Python's, as text."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
