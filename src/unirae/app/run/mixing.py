"""A mix of data sets in a run: its training images, and what is of one of its sources alone."""

from collections.abc import Callable
from typing import Any

from unirae.app.config.mixing import is_mix, names_of_entry, scored_number, source_config
from unirae.core.arguments import called
from unirae.core.log import get_logger
from unirae.data.dataset import ImageDataset
from unirae.data.latent_cache import CachedLatents
from unirae.data.mix import Mixed, MixedSource, MixPart, Relabelled
from unirae.data.mix_order import SourceDraws
from unirae.training.datamodule import TrainingData

log = get_logger(__name__)

Config = dict[str, Any]
TrainingImages = ImageDataset | Mixed[ImageDataset]
"""The training images of a run: one data set, or a mix of several."""


def check_sources(data: Config) -> None:
    """Refuse a mix of nothing, before anything is built; other data pass.

    Raises:
        ConfigError: If ``data.sources`` is empty.
    """
    if is_mix(data):
        scored_number(data)


def say_changes(there: Config, here: Config) -> None:
    """Warn where a run continues on another mix than it began with: its sources' turns are then others.

    Args:
        there: the data configuration of the checkpoint.
        here: that of the run.
    """
    before, now = (
        {entry["name"]: entry["weight"] for entry in data.get("sources", [])} for data in (there, here)
    )
    if list(before.items()) != list(now.items()):
        listed = (
            ", ".join(f"{name} ({weight:g})" for name, weight in of.items()) or "none" for of in (before, now)
        )
        log.warning(
            "the mix was another: %s there, %s here; batches are those of a new run on this one", *listed
        )


def mixed_images(
    data: Config, open_part: Callable[..., ImageDataset], *, source: MixedSource | None = None
) -> Mixed[ImageDataset]:
    """The training images of a mix.

    Args:
        open_part: called with a source's configuration and, as ``source``, the source if it is open already.
        source: of the mix, if it is open already.

    Raises:
        ConfigError: If the sources' classes cannot be joined (:func:`~unirae.data.mix.join_classes`).
    """
    parts = []
    for number, entry in enumerate(data["sources"]):
        with called(names_of_entry(number)):
            opened = None if source is None else source.sources[number]
            images = open_part(source_config(data, number), source=opened)
        parts.append(MixPart(name=entry["name"], weight=entry["weight"], data=images))
    if source is None:
        source = MixedSource({part.name: part.data.source for part in parts}, labels=data["labels"])
    return Mixed(parts, source=source, scored=scored_number(data))


def scored_images(images: TrainingImages) -> ImageDataset:
    """The training images whose latents' statistics count: all, or of a mix those of the scored source."""
    return images.scored_part.data if isinstance(images, Mixed) else images


def with_classes_of(train: Any, validation: ImageDataset) -> ImageDataset:
    """Validation images, labelled with the classes of the mix that is trained on; others stay as they are."""
    if not isinstance(train, Mixed) or validation.source.class_names == train.class_names:
        return validation
    return validation.with_source(Relabelled(validation.source, train.class_names))


def latents_of_parts(
    mix: Mixed[ImageDataset], cached: Callable[[str, ImageDataset], CachedLatents]
) -> Mixed[CachedLatents]:
    """A mix of cached latents in place of the images.

    Args:
        cached: called with each part's name and images.
    """
    parts = []
    for number, part in enumerate(mix.parts):
        with called(names_of_entry(number)):
            latents = cached(part.name, part.data)
        parts.append(MixPart(name=part.name, weight=part.weight, data=latents))
    return Mixed(parts, source=mix.source, scored=mix.parts.index(mix.scored_part))


def mix_in_words(mix: Mixed[Any], data: TrainingData, *, max_steps: int) -> list[str]:
    """What a run takes from each source of its mix, a line for each, and which of them is scored."""
    draws = SourceDraws([part.weight for part in mix.parts], seed=data.seed)
    lines = []
    for part, share, steps in zip(mix.parts, draws.shares, draws.counts(max_steps), strict=True):
        epochs = steps * data.global_batch_size / len(part.data)
        lines.append(
            f"mix: {part.name}, {len(part.data)} images, {float(share):.3g} of the steps: {steps} of {max_steps}, "
            f"{epochs:.3g} passes over it"
        )
    scored = mix.scored_part.name
    return [*lines, f"mix: validation, statistics of latents, references and scores are of {scored}"]
