"""Scores of generated images: the Fréchet distance to a reference, in one streaming pass; no image is kept.

The protocol, and the trap of recipe.md that each point avoids:

- the reference is a data set or a published file, never the images of a reconstruction score (1);
- how labels were chosen stands with the score: balanced ones give a lower one than random ones (2);
- every image counts once: whole batches go to the processes, and the feature networks run in chunks of a fixed
  size, so that neither the batch size nor the process count changes a score (3);
- images are 8-bit, as a file would hold them; sums are float64 (4);
- a score of few images is biased upward: the count stands beside it, and below 50,000 a warning (13).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

import unirae
from unirae.core.distributed import own_batches
from unirae.core.errors import ConfigError, DataError
from unirae.core.exact import NETWORK_CHUNK
from unirae.evaluation.reconstruction import Progress
from unirae.evaluation.reference import Reference
from unirae.evaluation.scores import Scores, warn_of_bias
from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.frechet import frechet_distance, frechet_name
from unirae.metrics.moments import MomentAccumulator

Make = Callable[[Int64[Tensor, " b"]], UInt8[Tensor, "b 3 H W"]]
"""From the numbers of images to the images, on the device of the numbers."""


class GenerationScores(Scores):
    """Of generated images."""


class GenerationFrechet:
    """Streaming Fréchet distance of generated images to a reference: ``fid`` or ``fd_<encoder>``.

    Raises:
        ConfigError: the reference was made with features of another width.
    """

    def __init__(
        self, *, extractor: FeatureExtractor, reference: Reference, device: torch.device | str = "cpu"
    ) -> None:
        if len(reference.moments.mean) != extractor.width:
            raise ConfigError(
                f"the reference has features of {len(reference.moments.mean)} numbers, {extractor.name} gives "
                f"{extractor.width}: both sides need the same extractor"
            )
        self.extractor, self.reference, self.device = extractor, reference, device
        self.name = frechet_name(extractor)
        self.reset()

    @property
    def settings(self) -> dict[str, Any]:
        """What identifies the score: features and reference."""
        return {
            "extractor": self.extractor.name,
            "features": self.extractor.width,
            **self.extractor.identity,
            "reference": self.reference.identity,
        }

    def reset(self) -> None:
        """Forget everything seen."""
        self._generated = MomentAccumulator(width=self.extractor.width, device=self.device)

    def update(self, images: UInt8[Tensor, "b 3 H W"]) -> None:
        """Add a batch of images."""
        self._generated.update(self.extractor(images))

    def compute(self) -> float:
        """The distance over all processes."""
        return frechet_distance(self.reference.moments, self._generated.compute())


def evaluate_generation(
    make: Make,
    count: int,
    *,
    metrics: Sequence[GenerationFrechet],
    batch_size: int,
    device: torch.device | str = "cpu",
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> GenerationScores:
    """Score the images numbered 0 … ``count`` − 1, each made once; every process gets the same result.

    Args:
        make: called with consecutive numbers; a function of them alone.
        metrics: reset here, then updated; their networks must be on ``device``.
        batch_size: images made at once; the score depends on it only as far as ``make`` does.
        settings: what the caller knows of model and sampler, kept with the scores.
        progress: called with (images done, images in all) of this process.

    Raises:
        DataError: fewer than two images.
    """
    if count < 2:
        raise DataError(
            f"num_samples={count}: a Fréchet score needs at least 2 images, published ones rest on 50,000"
        )
    for metric in metrics:
        metric.reset()
    batches = own_batches(count, batch_size)
    done, total, size_px = 0, sum(map(len, batches)), None
    for batch in batches:
        images = make(torch.arange(batch.start, batch.stop, device=device))
        for metric in metrics:
            metric.update(images)
        done, size_px = done + len(images), list(images.shape[-2:])
        if progress is not None:
            progress(done, total)
    scores = {metric.name: metric.compute() for metric in metrics}
    warn_of_bias(scores, count)
    own_settings = {
        "size_px": size_px,
        "count": count,
        "batch_size": batch_size,
        "conversion": "clamp to [0, 1], round to 8 bits",
        "network_chunk": NETWORK_CHUNK,
        "device": torch.device(device).type,
        "metrics": {metric.name: metric.settings for metric in metrics},
        "versions": {"unirae": unirae.__version__, "torch": str(torch.__version__)},
    }
    return GenerationScores(scores=scores, count=count, settings={**(settings or {}), **own_settings})
