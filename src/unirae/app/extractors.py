"""From what a user calls an encoder to a feature extractor."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from unirae.metrics.extractors import FeatureExtractor


def open_extractor(spec: str, *, weights: str | None = None, device: "torch.device") -> "FeatureExtractor":
    """``dinov2``, an autoencoder's checkpoint, an encoder's folder or hub name, or ``FILE.py:NAME``.

    Args:
        weights: where the weights lie, if not at their usual place.

    Raises:
        ConfigError: the file or the name in it does not exist, or makes no extractor.
        WeightsError: weights are missing or damaged.
    """
    from unirae.app.encoder_source import find_encoder
    from unirae.evaluation.metric_set import encoder_extractor

    if spec == "dinov2":
        from unirae.evaluation.dinov2_features import MODEL, Dinov2Extractor

        return Dinov2Extractor(weights=weights or MODEL, device=device)
    if ".py:" in spec:
        if weights is not None:
            raise ConfigError(f"--encoder_weights: {spec} loads its own weights; leave the option out")
        return _users_module(spec, device)
    found = find_encoder(spec, kind=None, model_name=None, weights=weights)
    if found.encoder is None:
        raise ConfigError(f"--encoder {spec} has no features; name an encoder")
    return encoder_extractor(found.encoder.to(device), found.input_size)


def _users_module(spec: str, device: "torch.device") -> "FeatureExtractor":
    """Run the user's file, call what it names, and see what the module makes of an image."""
    import torch
    from torch import nn

    from unirae.core.io import file_sha256
    from unirae.metrics.extractors import ModuleExtractor

    path, name = spec.rsplit(":", 1)
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"--encoder {spec}: no such file {file}")
    found = importlib.util.spec_from_file_location(f"unirae_user_{file.stem}", file)
    if found is None or found.loader is None:
        raise ConfigError(f"--encoder {spec}: {file} is no Python file")
    content = importlib.util.module_from_spec(found)
    found.loader.exec_module(content)
    make = getattr(content, name, None)
    if not callable(make):
        raise ConfigError(f"--encoder {spec}: {file} defines no {name} that can be called")
    module = make()
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"--encoder {spec}: {name}() must give a torch.nn.Module, not {type(module).__name__}"
        )
    module = module.eval().requires_grad_(False).to(device)
    with torch.no_grad():
        rows = module(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device))
    if rows.ndim != 2:
        raise ConfigError(
            f"--encoder {spec}: the module gave {tuple(rows.shape)} for one image; expected (1, d)"
        )
    return ModuleExtractor(
        module=module,
        name=f"{file.stem}_{name}".lower(),
        width=rows.shape[1],
        identity={"file": file.name, "file_sha256": file_sha256(file), "name": name},
    )
