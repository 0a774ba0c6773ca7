"""Scores of generated images, in one pass in which each is made once and none is kept.

The protocol, and the trap of recipe.md that each point avoids:

- the reference is a data set or a published file, never the images of a reconstruction score (1);
- how labels were chosen stands with the score: balanced ones give a lower one than random ones (2);
- every image counts once: whole batches go to the processes, and the feature networks run in chunks of a fixed
  size, so that neither the batch size nor the process count changes a score (3);
- images are 8-bit, as a file would hold them; sums are float64 (4);
- a score of few images is biased upward: the count stands beside it, and below 50,000 a warning (13).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from unirae.core.distributed import own_batches
from unirae.core.errors import DataError
from unirae.evaluation.passes.reading import Chunk, Progress
from unirae.evaluation.passes.scoring import Collected, collect, compute_scores, program, settings_of
from unirae.evaluation.references.reference import Reference, check_fits, check_purpose, of_same_size
from unirae.evaluation.scores.cautions import cautions, check_counts
from unirae.evaluation.scores.record import Scores
from unirae.metrics.set_metrics import SetMetric, needs

Make = Callable[[Int64[Tensor, " b"]], UInt8[Tensor, "b 3 H W"]]
"""Function from the numbers of images to the images, on the device of the numbers."""


def evaluate_generation(
    make: Make,
    count: int,
    *,
    metrics: Sequence[SetMetric],
    reference: Reference | None,
    batch_size: int,
    device: torch.device | str = "cpu",
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score the images numbered 0 … ``count`` − 1, each made once; every process gets the same result.

    Args:
        make: called with consecutive numbers; a function of them alone.
        metrics: their networks must be on ``device``.
        reference: None where no metric needs one.
        batch_size: images made at once; the score depends on it only as far as ``make`` does.
        about: what the caller knows of model and sampler, kept with the scores.
        progress: called with (images done, images in all) of this process.

    Raises:
        DataError: If there are fewer than two images.
        ConfigError: If the reference is of another purpose, or lacks what the metrics need.
    """
    if reference is not None:
        check_purpose(reference, "generation")
        check_fits(reference, metrics)
    if count < 2:
        raise DataError(
            f"num_samples={count}: a Fréchet score needs at least 2 images, published ones rest on 50,000"
        )
    check_counts(metrics, count, "the samples")
    chunks = _made(make, own_batches(count, batch_size), device=device, progress=progress)
    found = collect(
        chunks if reference is None else of_same_size(chunks, reference),
        needs(metrics, of_reference=False),
        count=count,
        device=device,
    )
    images = {"kind": "generation", **(about or {}), **found.describe(), "batch_size": batch_size}
    settings = {"images": images, "conversion": "clamp to [0, 1], round to 8 bits"}
    return scored(found, reference, metrics=metrics, settings=settings, device=device, what="the samples")


def scored(
    found: Collected,
    reference: Reference | None,
    *,
    metrics: Sequence[SetMetric],
    settings: Mapping[str, Any],
    device: torch.device | str,
    what: str,
) -> Scores:
    """Compute the scores of images that were seen, and record them.

    Args:
        settings: of the images.
        what: the images, for the cautions.
    """
    estimates = compute_scores(metrics, found.statistics, {} if reference is None else reference.statistics)
    return Scores(
        estimates=estimates,
        count=found.count,
        settings={
            **settings,
            "metrics": settings_of(metrics),
            "reference": None if reference is None else reference.identity,
            **program(device),
        },
        warnings=cautions(metrics, found, reference, names=estimates, what=what),
    )


def _made(
    make: Make, batches: list[range], *, device: torch.device | str, progress: Progress | None
) -> Iterator[Chunk]:
    done, total = 0, sum(map(len, batches))
    for batch in batches:
        numbers = torch.arange(batch.start, batch.stop, device=device)
        yield numbers, make(numbers)
        done += len(batch)
        if progress is not None:
            progress(done, total)
