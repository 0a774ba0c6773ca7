"""The settings that decide a run's curves, in one flat dictionary that two runs can compare.

Two runs are comparable when these agree; where they write, how often they log and on which machine does not matter.
A path does not say what lies there, so in place of an encoder's path stands what that encoder says of itself, and in
place of an autoencoder's the settings that it was trained with.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from unirae.core.differences import flat

DECIDING = (
    "data.*",
    "model.*",
    "flow.*",
    "trainer.max_steps",
    "trainer.max_epochs",
    "callbacks.*_metrics.num_samples",
    "callbacks.generation_metrics.num_steps",
    "callbacks.generation_metrics.cfg_scale",
    "callbacks.generation_metrics.ig_*",
)
NOT_DECIDING = (
    "data.source.data_dir",
    "data.num_workers",
    "data.on_bad_image",
    "data.latent_cache*",
    "data.verify_contents",
    "data.source.verify_contents",
    "data.sources.*.source.data_dir",
    "data.sources.*.source.verify_contents",
    "data.sources.*.verify_contents",
    "data.sources.*.on_bad_image",
    "model.sample_every",
    "model.ema_extra_decays",
    "model.text_encoder.name",
    "*.remedy",
    "*.gradient_checkpointing",
)
_ENCODERS = ("model.encoder.weights", "model.rae.encoder.weights")
_AUTOENCODER = "model.rae.pretrained_decoder_path"
_PARTS = {
    "model.disc_weight": (
        *("model.disc_", "model.discriminator.", "model.augment."),
        *("model.max_adaptive_weight", "model.fixed_adaptive_weight"),
    ),
    "model.perceptual_weight": ("model.perceptual.",),
}
"""Weights of a loss that is not computed at 0, and the beginnings of the keys that then decide nothing."""


def deciding_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The deciding settings by dotted name, from a resolved configuration.

    What lies at a path that leads nowhere now cannot be told; its keys are then absent, and nobody compares them.
    """
    settings = {
        key: value
        for key, value in flat(_sources_by_name(config)).items()
        if _matches(key, DECIDING) and not _matches(key, NOT_DECIDING) and value != {}
    }
    for key in _ENCODERS:
        settings.update(_encoder(key, settings.pop(key, None)))
    settings.update(_autoencoder(settings.pop(_AUTOENCODER, None)))
    return settings


def differing_settings(settings: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    """Differences of the deciding settings that two runs both have: ``key=mine (reference: theirs)``.

    What belongs to a part that neither uses, such as a discriminator of weight 0, is no difference.
    """
    from unirae.evaluation.health.check import differences

    used = {key: value for key, value in settings.items() if not _unused(key, settings, reference)}
    return differences(used, reference)


def _unused(key: str, *sides: Mapping[str, Any]) -> bool:
    """Say whether a key belongs to a part that is used on no side; of a run, or of its autoencoder's ("path:key")."""
    of, own = key[: key.rfind(":") + 1], key[key.rfind(":") + 1 :]
    return any(
        own.startswith(keys) and all(side.get(of + weight) == 0 for side in sides)
        for weight, keys in _PARTS.items()
    )


def _sources_by_name(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the sources of a mix under their names, in their order."""
    if "data" not in config or "sources" not in config["data"]:
        return config
    data = config["data"]
    named = {entry["name"]: entry for entry in data["sources"]}
    return {**config, "data": {**data, "sources": {**named, "order": list(named)}}}


def _encoder(key: str, weights: Any) -> dict[str, Any]:
    """The settings of an encoder: ``hub`` and ``random`` as they are, a folder by what it says of itself."""
    from unirae.core.io import read_json

    if weights is None:
        return {}
    if weights in ("hub", "random"):
        return {key: weights}
    record = Path(weights) / "unirae.json"
    if record.is_file():
        said = {name: value for name, value in read_json(record).items() if name not in ("unirae", "seed")}
        return {key: ", ".join(f"{name} {value}" for name, value in said.items())}
    return {key: str(weights)} if Path(weights).exists() else {}


def _autoencoder(path: Any) -> dict[str, Any]:
    """The settings that the autoencoder of a generator was trained with."""
    from unirae.core.errors import WeightsError
    from unirae.models.checkpoints.reading import open_checkpoint

    if path is None:
        return {}
    try:
        trained_with = open_checkpoint(path, kind="stage1").config
    except WeightsError:
        return {}
    return {f"{_AUTOENCODER}:{key}": value for key, value in deciding_settings(trained_with).items()}


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
