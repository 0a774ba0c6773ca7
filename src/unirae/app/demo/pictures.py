"""Pictures of the demo's samples, drawn anew when the generator or its settings have changed."""

from typing import TYPE_CHECKING, Any

from unirae.app.demo.generator import Trained
from unirae.app.demo.parts import timed
from unirae.core.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from unirae.evaluation.passes.image_set import LabelledImages

log = get_logger(__name__)

_SCALES = ((1.0, 1.0), (1.5, 1.25), (2.0, 1.5), (3.0, 2.0), (4.0, 3.0))
"""Of guidance by class, and of internal guidance, row by row."""
_CLASSES = 9
"""Most classes that are shown."""
_NOISES = 3
"""Noises for each class in the picture of guidance."""
_MOMENTS = 8
_STRIPS = 4
_SAMPLES, _REAL = 5, 3
"""Samples and real images of each class, side by side."""


def draw_generation(trained: Trained) -> None:
    """Draw samples beside real images, nearest training images, guidance, and the way from noise."""
    from unirae.core.io import read_json, write_json

    folder = trained.folder / "pictures"
    record, made_from = folder / "generation.json", trained.generator.settings
    names = ("samples", "nearest", "guidance", "denoising")
    complete = record.is_file() and all((folder / f"{name}.png").is_file() for name in names)
    if complete and read_json(record) == made_from:
        return
    record.unlink(missing_ok=True)
    log.info("pictures of the samples: %s", folder)
    with timed(trained.folder, "pictures"):
        for draw in (_draw_classes, _draw_nearest, _draw_guidance, _draw_denoising):
            draw(trained)
    write_json(record, made_from)


def _shown_classes(trained: Trained, count: int) -> list[int]:
    """Classes that have samples, evenly spread where there are more than ``count``."""
    present = trained.samples.labels.unique().tolist()
    return [present[i * len(present) // count] for i in range(count)] if len(present) > count else present


def _first_of(trained: Trained, labels: list[int]) -> "Tensor":
    """The number of the first sample of each class."""
    import torch

    return torch.stack([(trained.samples.labels == label).nonzero()[0, 0] for label in labels])


def _of_class(data: "LabelledImages", label: int, count: int, *, spread: bool = False) -> "Tensor":
    """The first images of a class, or some that are spread evenly over it."""
    own = data.images[data.labels == label]
    step = max(1, len(own) // count) if spread else 1
    return own[::step][:count]


def _draw_classes(trained: Trained) -> None:
    from unirae.app.demo.report.pictures import draw_classes

    rows = [
        (
            trained.class_names[label],
            _of_class(trained.samples, label, _SAMPLES),
            _of_class(trained.held_out, label, _REAL, spread=True),
        )
        for label in _shown_classes(trained, _CLASSES)
    ]
    draw_classes(trained.folder / "pictures/samples.png", rows)


def _draw_nearest(trained: Trained) -> None:
    """Draw the first sample of each class, and those of all samples that come nearest to a training image."""
    from unirae.app.demo.report.pictures import draw_nearest
    from unirae.evaluation.judges.nearest import find_nearest, token_vectors

    bank = token_vectors(trained.rae, trained.train.images)
    found = find_nearest(token_vectors(trained.rae, trained.samples.images), bank, count=2)
    first = _first_of(trained, _shown_classes(trained, _CLASSES))
    closest = found.distances[:, 0].argsort()[: len(first)]
    titles = {"the first sample of each class": first, "the samples nearest to any training picture": closest}
    blocks = [
        (
            title,
            trained.samples.images[chosen],
            [trained.train.images[found.indices[chosen, rank]] for rank in range(2)],
        )
        for title, chosen in titles.items()
    ]
    draw_nearest(trained.folder / "pictures/nearest.png", blocks)


def _draw_guidance(trained: Trained) -> None:
    """Draw two classes, the first and the last, by the same noises at every scale, guided in either way."""
    from dataclasses import replace

    import torch

    from unirae.app.demo.report.pictures import draw_guidance
    from unirae.evaluation.sampling.requests import LabelRule

    present = _shown_classes(trained, _CLASSES)
    shown, sampler = dict.fromkeys((present[0], present[-1])), trained.generator.sampler
    given = tuple(label for label in shown for _ in range(_NOISES))
    numbers = torch.arange(len(given))

    def guided(**scales: float) -> "Sequence[Tensor]":
        one = replace(
            sampler,
            settings=replace(sampler.settings, **{"cfg_scale": 1.0, "ig_scale": 1.0, **scales}),
            rule=LabelRule(num_classes=sampler.dit.num_classes, given=given),
            batch_size=len(given),
        )
        return one(numbers).split(_NOISES)

    rows = []
    for by_class, internal in _SCALES:
        row = [(f"by class, {by_class:g}", guided(cfg_scale=by_class))]
        if sampler.dit.base_output is not None:
            row.append((f"internal, {internal:g}", guided(ig_scale=internal)))
        rows.append(row)
    draw_guidance(
        trained.folder / "pictures/guidance.png", rows, [trained.class_names[label] for label in shown]
    )


def _draw_denoising(trained: Trained) -> None:
    """Draw some samples of different classes at moments spread over the sampler's steps."""
    import torch

    from unirae.app.demo.report.pictures import draw_denoising
    from unirae.evaluation.passes.encoding import inference_context
    from unirae.evaluation.sampling.trajectory import sample_moments

    sampler, labels = trained.generator.sampler, torch.tensor(_shown_classes(trained, _STRIPS))
    with inference_context(torch.device("cpu"), sampler.precision):
        moments = sample_moments(
            sampler.dit,
            labels=labels,
            indices=_first_of(trained, labels.tolist()),
            seed=sampler.seed,
            settings=sampler.settings,
            count=_MOMENTS,
        )
        states = [_decode(sampler, moment.xt) for moment in moments]
        expected = [_decode(sampler, moment.expected) for moment in moments]
    strips = [
        (
            trained.class_names[int(labels[i])],
            torch.stack([images[i] for images in states]),
            torch.stack([images[i] for images in expected]),
        )
        for i in range(len(labels))
    ]
    draw_denoising(trained.folder / "pictures/denoising.png", [moment.t for moment in moments], strips)


def _decode(sampler: Any, latents: "Tensor") -> "Tensor":
    from unirae.core.images import to_uint8
    from unirae.evaluation.sampling.sampler import decoder_for

    return to_uint8(decoder_for(sampler.dit, sampler.rae).decode(latents))
