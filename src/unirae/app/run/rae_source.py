"""The autoencoder that stage 2 works on: a stage-1 checkpoint, or a seeded random one for smoke tests."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirae.app.run.builders import Config, build_rae, keys_for
from unirae.core.arguments import called
from unirae.core.errors import ConfigError, UserError, WeightsError
from unirae.core.io import file_sha256, write_folder
from unirae.core.log import get_logger
from unirae.core.version import __version__
from unirae.models.checkpoints.making import rae_content, random_rae
from unirae.models.checkpoints.model_folder import WEIGHTS, is_model_folder, write_model_folder
from unirae.models.checkpoints.opening import rae_from_checkpoint
from unirae.models.checkpoints.pairing import rae_reference
from unirae.models.checkpoints.reading import Checkpoint, find_checkpoint, open_checkpoint
from unirae.models.interop.decoder_weights import is_official
from unirae.models.rae import RAE

log = get_logger(__name__)

CONVERTED = "rae"
"""Folder, in a run's, of the autoencoder that is made of a bare official decoder."""
_FROM_CHECKPOINT = ("encoder", "decoder", "image_size")
_FREE = ("encoder.weights", "encoder.remedy")
"""Keys that are no properties of the model: the place of the weights, and advice for those who lack them."""


@dataclass(frozen=True)
class RaeSource:
    """The source of an autoencoder.

    Attributes:
        checkpoint: a stage-1 checkpoint; None for a random autoencoder.
        recipe: arguments of :func:`~unirae.models.checkpoints.making.random_rae`, for a random autoencoder.
        encoder_weights: the place of the encoder's weights, if it is not the one in the checkpoint.
    """

    checkpoint: Checkpoint | None
    recipe: dict[str, Any] | None
    encoder_weights: str | None = None

    def load(self, *, with_encoder: bool = True) -> RAE:
        """The autoencoder, in eval mode on the CPU.

        Raises:
            WeightsError: If weights are missing or do not fit.
        """
        if self.checkpoint is None:
            assert self.recipe is not None
            with (
                keys_for(encoder_input_size="model.rae.image_size"),
                called({"encoder.": "model.rae.encoder."}),
            ):
                rae = random_rae(**self.recipe)
            return rae if with_encoder else rae.without_encoder()
        return rae_from_checkpoint(
            self.checkpoint, encoder_weights=self.encoder_weights, with_encoder=with_encoder
        )

    def reference(self, rae: RAE, *, checkpoints: Path) -> dict[str, Any]:
        """The reference by which a stage-2 checkpoint in the folder ``checkpoints`` names its autoencoder."""
        relative = None
        if self.checkpoint is not None:
            relative = os.path.relpath(self.checkpoint.file.resolve(), checkpoints.resolve())
        return rae_reference(rae, path=relative, recipe=self.recipe)


def find_rae(config: Config) -> RaeSource:
    """Find the autoencoder that ``model.rae`` names, and write there what a checkpoint says about the model.

    Raises:
        ConfigError: If there is neither a checkpoint nor ``decoder_weights=random``, or a key contradicts the
            checkpoint.
        WeightsError: If the checkpoint is missing or damaged.
    """
    node = config["model"]["rae"]
    check_rae_named(node)
    path = node["pretrained_decoder_path"]
    if path is None:
        decoder = {key: value for key, value in node["decoder"].items() if key != "_target_"}
        recipe = {"encoder": node["encoder"], "decoder": decoder, "image_size": node["image_size"]}
        return RaeSource(checkpoint=None, recipe={**recipe, "seed": config["seed"]})
    file = _existing(path, node["remedy"])
    if is_official(file):
        file = _converted(file, config)
    checkpoint = open_checkpoint(file, kind="stage1")
    recorded = checkpoint.config  # of a conversion without a model's settings, too
    said = recorded.get("model", {})
    weights = _fill(node, said, config["changed_keys"], file)
    return RaeSource(checkpoint=checkpoint, recipe=None, encoder_weights=weights)


def check_rae_named(node: Config) -> None:
    """Refuse ``model.rae`` where it names no autoencoder, or two.

    Raises:
        ConfigError: If there is neither a checkpoint nor ``decoder_weights=random``, or both.
    """
    path, weights = node["pretrained_decoder_path"], node["decoder_weights"]
    if path is None and weights is None:
        raise ConfigError(
            "stage 2 needs an autoencoder: give a stage-1 checkpoint with model.rae.pretrained_decoder_path=PATH, or "
            "set model.rae.decoder_weights=random for a smoke test"
        )
    if path is not None and weights is not None:
        raise ConfigError(
            "model.rae.pretrained_decoder_path and model.rae.decoder_weights=random exclude each other; leave one out"
        )


def _converted(decoder: Path, config: Config) -> Path:
    """An official decoder as an autoencoder of ours, in the run's folder, with the encoder and sizes of ``model.rae``.

    Raises:
        ConfigError: If the run's folder has an autoencoder that was made from another file.
        WeightsError: If the decoder has other sizes than ``model.rae`` says.
    """
    node = config["model"]["rae"]
    folder = Path(config["paths"]["output_dir"]) / CONVERTED
    record = {"file": decoder.name, "sha256": file_sha256(decoder)}
    origin = {"program": "bytetriper/RAE", "version": __version__, "files": {"decoder": record}}
    if not is_model_folder(folder):
        model = {
            **node,
            "noise_tau": 0.0,
            "noise_kind": "uniform",
            "layer_dropout": 0.0,
            "pretrained_decoder_path": str(decoder),
        }
        rae = build_rae(model, seed=config["seed"])
        recorded = {"model": {key: node[key] for key in _FROM_CHECKPOINT}, "data": config["data"]}
        content = rae_content(rae, config=recorded, origin=origin)
        try:
            write_folder(folder, lambda new: write_model_folder(new, content))
        except UserError:
            if not is_model_folder(folder):  # else another process of this run was first
                raise
        log.info("%s: an official decoder; the autoencoder of this run is %s", decoder, folder)
    said = open_checkpoint(folder, kind="stage1").about.get("origin") or {}
    if said.get("files", {}).get("decoder", {}).get("sha256") != record["sha256"]:
        raise ConfigError(
            f"{folder} was made from another file than model.rae.pretrained_decoder_path={decoder}; give that one "
            "back, or choose another paths.output_dir"
        )
    return folder / WEIGHTS


def _existing(path: str, remedy: str | None) -> Path:
    try:
        return find_checkpoint(path)
    except WeightsError as error:
        advice = f". {remedy}" if remedy else ""
        raise WeightsError(f"model.rae.pretrained_decoder_path={path}: {error}{advice}") from None


def _fill(node: Config, said: Config, changed: list[str], file: Path) -> str | None:
    """Write what the checkpoint says into ``node``; returns where the user wants the encoder's weights from."""
    given = [key.removeprefix("model.rae.") for key in changed if key.startswith("model.rae.")]
    weights = node["encoder"]["weights"] if "encoder.weights" in given else None
    for key in given:
        if key.split(".")[0] not in _FROM_CHECKPOINT or key in _FREE:
            continue
        mine, theirs = _at(node, key), _at(said, key)
        if mine != theirs:
            raise ConfigError(
                f"model.rae.{key}={mine}, but {file} was trained with {theirs}; leave the key out, the checkpoint knows"
            )
    node.update({key: said[key] for key in _FROM_CHECKPOINT if key in said})
    return weights


def _at(node: Any, key: str) -> Any:
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node
