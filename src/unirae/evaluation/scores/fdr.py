"""The networks of FDr6: where their weights are, all of them looked for before any is loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.weights import VARIABLE, folder_name, weights_dir
from unirae.evaluation.judges.timm_features import TimmExtractor
from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.frechet_ratio import FDR6, SPACES, PublishedMoments, Space, frechet_ratio_metrics
from unirae.metrics.set_metrics import SetMetric
from unirae.models.encoders.timm import TimmEncoder
from unirae.models.encoders.timm_whole import random_network, whole_network

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def find_space_weights(weights: str | Path, spaces: Sequence[Space] = SPACES) -> dict[str, str]:
    """Places of the weights of timm's models by the spaces' names: timm's own names for its hub, or paths.

    Args:
        weights: ``hub`` (the weights folder, if one is set), ``random``, or a folder with an entry for each space: a
            folder of timm's or a file of tensors, called as the space is.

    Raises:
        WeightsError: If there is no such folder, or the weights of a space are not in it; the message names them all.
    """
    of_timm = {space.name: space.model for space in spaces if space.model is not None}
    carried = weights_dir() if str(weights) == "hub" else None
    if str(weights) == "random" or (str(weights) == "hub" and carried is None):
        return of_timm
    folder = Path(weights).expanduser() if carried is None else carried
    if not folder.is_dir():
        raise WeightsError(
            f"{argument('fdr_weights', weights)}: no such folder; it holds one entry for each of {', '.join(of_timm)}"
        )
    found = {
        name: _entry(folder, name) if carried is None else _carried(folder, model)
        for name, model in of_timm.items()
    }
    if lacking := [name for name, place in found.items() if place is None]:
        first = lacking[0]
        place = folder / (first if carried is None else folder_name(_repository(of_timm[first])))
        said = argument("fdr_weights", weights) if carried is None else f"{VARIABLE}={folder}"
        raise WeightsError(
            f"{FDR6}: {said} has no weights of {', '.join(lacking)}, and without them there is no mean of six. Fetch "
            f"them where there is a network: `hf download {_repository(of_timm[first])} --local-dir {place}`"
            f"{' and so on' if len(lacking) > 1 else ''}"
        )
    return {name: str(place) for name, place in found.items()}


def build_fdr_metrics(
    inception: FeatureExtractor,
    *,
    weights: str | Path,
    published: Mapping[str, PublishedMoments] | None,
    device: torch.device | str = "cpu",
    spaces: Sequence[Space] = SPACES,
) -> list[SetMetric]:
    """The six ratios and their mean, with all networks loaded.

    Args:
        inception: of the space without a model of timm.
        weights: see :func:`find_space_weights`.
        published: reference moments; None: those of the reference that the other scores have.

    Raises:
        WeightsError: If the weights of a space are missing, damaged, or of another model.
        ConfigError: If published moments are of another width than the network's features.
    """
    places = find_space_weights(weights, spaces)
    extractors = {
        space.name: inception
        if space.model is None
        else _extractor(space, space.model, places[space.name], weights=weights, device=device)
        for space in spaces
    }
    try:
        return frechet_ratio_metrics(extractors, published=published, spaces=spaces)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _extractor(
    space: Space, model: str, place: str, *, weights: str | Path, device: torch.device | str
) -> TimmExtractor:
    is_vit = space.pooling != "spatial"
    random = str(weights) == "random"
    try:
        backbone = (
            random_network(model, any_size=is_vit)
            if random
            else whole_network(place, name=model, any_size=is_vit)
        )
    except WeightsError as error:
        raise WeightsError(
            f"{FDR6} lacks the network of {space.name}: {error}. Fetch it where there is a network (`hf download "
            f"{_repository(model)} --local-dir DIR/{space.name}`) and set {argument('fdr_weights', 'DIR')}."
        ) from None
    return TimmExtractor(
        backbone=backbone,
        name=f"fdr_random_{space.name}" if random else f"fdr_{space.name}",
        model=model,
        weights="random" if random else place if place != model else "hub",
        pooling=space.pooling,
        input_size=(space.input_size_px, space.input_size_px),
        bfloat16=is_vit,
        device=device,
    )


def _entry(folder: Path, name: str) -> Path | None:
    if (folder / name / "config.json").is_file():
        return folder / name
    return next((f for suffix in _SUFFIXES if (f := folder / f"{name}{suffix}").is_file()), None)


def _carried(folder: Path, model: str) -> Path | None:
    place = folder / folder_name(_repository(model))
    return place if (place / "config.json").is_file() else None


def _repository(model: str) -> str:
    return TimmEncoder.hub_repository(model) or model
