"""The weights that a resolved configuration loads from hubs, by its ``weights: hub`` keys, not by a list."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unirae.core.errors import WeightsError
from unirae.core.weights import folder_name
from unirae.evaluation.judges.dinov2_features import MODEL as FD_DINOV2
from unirae.metrics.inception import URL as INCEPTION_URL
from unirae.metrics.set_metrics import INCEPTION_METRICS
from unirae.models.discriminators.dino import DINO_URL
from unirae.models.encoders.build import hub_repository
from unirae.models.encoders.identity import EncoderIdentity
from unirae.models.encoders.licences import licence_in_timm, licence_of_name
from unirae.nn.lpips import VGG16_URL

Config = dict[str, Any]

_OF_TARGET = {
    "unirae.models.perceptual.lpips_loss": VGG16_URL,
    "unirae.models.discriminators.dino.DinoDiscriminator": DINO_URL,
}
"""The weights that a part of the model loads for ``weights: hub``; a test compares them with configs/."""

_FILES = {
    VGG16_URL: ("VGG-16 of LPIPS", "BSD-3-Clause", 553_433_881),
    DINO_URL: ("DINO ViT-S/8 of the discriminator", "Apache-2.0", None),
    INCEPTION_URL: ("Inception-v3 of FID", "Apache-2.0", None),
}
"""Name, licence and published size in bytes; where the size is None the server is asked."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """One file, or one model of the Hugging Face hub.

    Attributes:
        what: a name of the need, for the user.
        source: an address, or ``owner/name`` on the hub.
        licence: the licence as the publisher states it; None if only the hub knows.
        size: published size in bytes; None if only the server knows.
    """

    what: str
    source: str
    licence: str | None
    size: int | None = None

    @property
    def is_file(self) -> bool:
        """True for a single file at an address."""
        return "://" in self.source

    @property
    def place(self) -> str:
        """The need's name in the weights folder."""
        return self.source.rsplit("/", 1)[-1] if self.is_file else folder_name(self.source)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All needs of a run, and what the user must bring besides."""

    needs: tuple[Need, ...]
    notes: tuple[str, ...]


def catalogue_of(config: Config, *, evaluation: bool = False) -> Catalogue:
    """The catalogue of a run of a resolved configuration: all that it loads from hubs.

    Args:
        config: the composed configuration; where it names a stage-1 checkpoint that is here, the checkpoint's
            encoder counts.
        evaluation: add what the evaluation commands load by default.
    """
    notes: list[str] = []
    needs = [*_encoders(config, notes), *_parts(config["model"]), *_scores(config)]
    if evaluation:
        judge = model_need(FD_DINOV2, "DINOv2-L of FD-DINOv2")
        needs += [file_need(INCEPTION_URL), file_need(VGG16_URL), judge]
    from unirae.app.config.mixing import data_folders

    notes += [
        f"the data: {key}={folder}"
        for key, folder in data_folders(config["data"]).items()
        if folder is not None
    ]
    first_of_place = {need.place: need for need in reversed(needs)}  # VGG-16 may be a loss and a score
    return Catalogue(
        needs=tuple(need for need in needs if need is first_of_place[need.place]), notes=tuple(notes)
    )


def file_need(url: str, use: str = "") -> Need:
    """The need of a file that the package knows."""
    what, licence, size = _FILES[url]
    return Need(what=f"{what} ({use})" if use else what, source=url, licence=licence, size=size)


def model_need(repository: str, what: str) -> Need:
    """The need of a model on the hub."""
    licence = licence_of_name(repository)
    return Need(what=what, source=repository, licence=licence)


def _encoders(config: Config, notes: list[str]) -> Iterator[Need]:
    model = config["model"]
    if "rae" in model:
        node = _encoder_of_stage2(config, notes)
    elif "encoder" in model:
        node = model["encoder"]
    else:
        return
    if node["weights"] != "hub" or Path(node["name"]).exists():
        return
    repository = hub_repository(node["kind"], node["name"])
    if repository is None:
        notes.append(
            f"the encoder {node['name']}: timm has no copy of it on the Hugging Face hub; fetch its file yourself and "
            "set model.encoder.weights=FILE"
        )
        return
    if node["kind"] == "timm":
        need = model_need(repository, f"encoder {node['name']}")
        yield replace(need, licence=need.licence or licence_in_timm(node["name"]))
    else:
        yield model_need(repository, "encoder")


def _encoder_of_stage2(config: Config, notes: list[str]) -> Config:
    """The encoder as the stage-1 checkpoint says, if it is here, else as the configuration has it."""
    from unirae.models.checkpoints.reading import open_checkpoint

    node = config["model"]["rae"]
    path = node["pretrained_decoder_path"]
    if path is not None and Path(path).exists():
        said = EncoderIdentity.from_dict(open_checkpoint(path, kind="stage1").about["rae"]["encoder"])
        weights = "inside" if said.embedded else said.weights
        if "model.rae.encoder.weights" in config["changed_keys"]:
            weights = node["encoder"]["weights"]
        return {"kind": said.kind, "name": said.source, "weights": weights}
    if node["decoder_weights"] is None:
        notes.append(
            f"a stage-1 checkpoint: model.rae.pretrained_decoder_path={path or 'PATH'}; it is not here, so the encoder "
            "is the one that the configuration names"
        )
    return node["encoder"]


def _parts(model: Config) -> Iterator[Need]:
    """The frozen networks of the losses, where these count."""
    for part, weight, use in (
        ("perceptual", "perceptual_weight", "loss"),
        ("discriminator", "disc_weight", ""),
    ):
        if part not in model or not model[weight] or model[part].get("weights") != "hub":
            continue
        target = model[part]["_target_"]
        if target not in _OF_TARGET:
            raise WeightsError(f"model.{part}: it is not known what {target} loads for weights=hub")
        yield file_need(_OF_TARGET[target], use)


def _scores(config: Config) -> Iterator[Need]:
    """The networks of the scores while training."""
    from unirae.app.run.stages import STAGES

    scored_by = STAGES[config["model"]["stage"]].scored_by
    if scored_by is None:
        return
    node = config["callbacks"][scored_by]
    of_inception = {"rfid", *INCEPTION_METRICS} & set(node["metrics"])
    if of_inception and node["inception_weights"] == "hub":
        yield file_need(INCEPTION_URL, f"score {', '.join(sorted(of_inception))}")
    if "lpips" in node["metrics"] and node["lpips_weights"] == "hub":
        yield file_need(VGG16_URL, "score lpips")
