"""The feature extractor that the options of an encoder name."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unirae.app.inputs.encoder import EncoderKind
from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from unirae.metrics.extractors import FeatureExtractor

EncoderPooling = Literal["class", "mean", "attention"]


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """The encoder behind the score fd."""

    encoder: str | None = None
    """Encoder of the score fd: dinov2 (FD-DINOv2), an autoencoder's checkpoint, an encoder's folder or hub name, with
    --encoder_kind timm a model of timm or a file of its weights; or FILE.py:NAME (called without arguments it gives a
    module from uint8 [b, 3, H, W] to [b, d])."""
    encoder_weights: str | None = None
    """The encoder's weights, a folder or file. Default: their usual place."""
    encoder_kind: EncoderKind | None = None
    """Kind of an encoder that is no checkpoint of ours. Default: as its config.json says."""
    encoder_name: str | None = None
    """Name of the timm model, where --encoder is a file of its weights."""
    encoder_pooling: EncoderPooling | None = None
    """From the tokens of a timm model to one vector: mean, or of the model as it was published its class token (class)
    or its own attention pool (attention). Default: mean."""


def encoder_extractor_of(
    options: EncoderOptions, *, asked: bool, device: "torch.device"
) -> "FeatureExtractor | None":
    """The extractor that the options name; None where they name no encoder.

    Args:
        asked: True where a score needs an encoder.

    Raises:
        ConfigError: If options do not go together.
        WeightsError: If weights are missing or damaged.
    """
    for name in ("encoder_weights", "encoder_kind", "encoder_name", "encoder_pooling"):
        if options.encoder is None and getattr(options, name) is not None:
            raise ConfigError(f"--{name} belongs to --encoder; give --encoder, too")
    if asked != (options.encoder is not None):
        raise ConfigError(
            "--metrics fd and --encoder go together: the Fréchet distance in that encoder's features"
        )
    if options.encoder is None:
        return None
    return open_extractor(
        options.encoder,
        weights=options.encoder_weights,
        kind=options.encoder_kind,
        model_name=options.encoder_name,
        pooling=options.encoder_pooling,
        device=device,
    )


def open_extractor(
    spec: str,
    *,
    weights: str | None = None,
    kind: EncoderKind | None = None,
    model_name: str | None = None,
    pooling: EncoderPooling | None = None,
    device: "torch.device",
) -> "FeatureExtractor":
    """Open ``dinov2``, an autoencoder's checkpoint, an encoder's folder or hub name, a timm model, or ``FILE.py:NAME``.

    Args:
        weights: the place of the weights, if it is not the usual one.
        kind: the kind of an encoder that is no checkpoint of ours.
        model_name: timm's name of the model, where ``spec`` is a file of weights.
        pooling: of a timm model's tokens; None is their mean.

    Raises:
        ConfigError: If the file or the name in it does not exist, or makes no extractor.
        WeightsError: If weights are missing or damaged.
    """
    from unirae.app.inputs.encoder import find_encoder
    from unirae.evaluation.scores.metric_set import encoder_extractor

    if (spec == "dinov2" or ".py:" in spec) and (kind or model_name):
        raise ConfigError(f"--encoder {spec} needs neither --encoder_kind nor --encoder_name; leave them out")
    if pooling is not None and kind != "timm":
        raise ConfigError(f"--encoder_pooling {pooling} is for --encoder_kind timm; leave it out here")
    if spec == "dinov2":
        from unirae.evaluation.judges.dinov2_features import MODEL, Dinov2Extractor

        return Dinov2Extractor(weights=weights or MODEL, device=device)
    if ".py:" in spec:
        if weights is not None:
            raise ConfigError(f"--encoder_weights: {spec} loads its own weights; leave the option out")
        return _users_module(spec, device)
    if pooling in ("class", "attention"):
        return _published_model(spec, weights=weights, model_name=model_name, pooling=pooling, device=device)
    found = find_encoder(
        spec, kind=kind, model_name=model_name, weights=weights, kind_option="--encoder_kind"
    )
    if found.encoder is None:
        raise ConfigError(f"--encoder {spec} has no features; name an encoder")
    return encoder_extractor(found.encoder.to(device), found.input_size)


def _published_model(
    spec: str,
    *,
    weights: str | None,
    model_name: str | None,
    pooling: Literal["class", "attention"],
    device: "torch.device",
) -> "FeatureExtractor":
    """A model of timm with what its own pooling needs, which our encoders leave out."""
    from unirae.app.inputs.encoder import check_timm_source
    from unirae.core.weights import carried_folder
    from unirae.evaluation.judges.timm_features import TimmExtractor
    from unirae.evaluation.scores.metric_set import name_of_model
    from unirae.models.encoders.build import hub_repository
    from unirae.models.encoders.grid import as_size
    from unirae.models.encoders.timm_whole import whole_network

    path = Path(spec).expanduser()
    check_timm_source(spec, path, weights=weights, model_name=model_name)
    place = str(path)
    if not path.exists():
        repository = hub_repository("timm", spec)
        place = str((carried_folder(repository) if repository else None) or spec)
    backbone = whole_network(place, name=model_name or spec, any_size=True)
    network: Any = backbone.network
    return TimmExtractor(
        backbone=backbone,
        name=f"{name_of_model(model_name or spec)}_{pooling}",
        model=model_name or spec,
        weights=place if path.exists() else "hub",
        pooling=pooling,
        input_size=as_size(network.patch_embed.img_size),
        device=device,
    )


def _users_module(spec: str, device: "torch.device") -> "FeatureExtractor":
    """Run the user's file, call the named object, and try the resulting module on an image."""
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
