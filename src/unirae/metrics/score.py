"""Scores of images that are at hand as tensors: one call, no files, no settings to keep.

For sets that lie in files, for several processes and for a record of every setting: ``src/evaluate.py``.
"""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from unirae.metrics.base import Estimate
from unirae.metrics.clip_score import CLIP_SCORE, PromptExtractor, clip_metric
from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.inception_score import Order
from unirae.metrics.resampling import Confidence
from unirae.metrics.set_metrics import (
    ENCODER_METRICS,
    INCEPTION_METRICS,
    SetMetric,
    compute,
    encoder_metrics,
    inception_metrics,
    needs,
)
from unirae.metrics.statistics import Collector, Statistics

_BLOCK = 256
"""Images that go through the extractors together; no score depends on it."""


def score(
    images: UInt8[Tensor, "n 3 H W"],
    reference: UInt8[Tensor, "m 3 h w"] | None = None,
    *,
    prompts: Sequence[str] | None = None,
    metrics: Sequence[str] = ("fid", "is", "precision", "recall"),
    extractor: FeatureExtractor,
    confidence: Confidence | None = None,
    is_order: Order = "shuffled",
) -> dict[str, Estimate]:
    """Scores by name of a set of images against a reference; each process computes by itself, on what it is given.

    Args:
        images, reference: 8-bit RGB, on the extractor's device.
        prompts: of each image, for ``clip_score``.
        metrics: of ``fid, sfid, is, kid, mind, precision, recall, density, coverage`` with an
            :class:`~unirae.metrics.inception.InceptionExtractor`; ``fd, mind_fd`` with any other; ``clip_score`` with
            a :class:`~unirae.metrics.clip_score.PromptExtractor`.
        extractor: the network behind the scores.
        confidence: of Fréchet distances.
        is_order: of the images in the Inception Score's parts.

    Raises:
        ValueError: If a score is unknown, a reference or the prompts are missing, or there are too few images.
        TypeError: If images are not uint8.
    """
    unknown = set(metrics) - {*INCEPTION_METRICS, *ENCODER_METRICS, CLIP_SCORE}
    if unknown or not metrics:
        known = ", ".join((*INCEPTION_METRICS, *ENCODER_METRICS, CLIP_SCORE))
        raise ValueError(f"metrics={tuple(metrics)}: give some of {known}")
    for tensor in (images, reference):
        if tensor is not None and tensor.dtype != torch.uint8:
            raise TypeError(
                f"images must be uint8 RGB in [0, 255], got {tensor.dtype}; see unirae.core.images.to_uint8"
            )
        if tensor is not None and (tensor.ndim != 4 or tensor.shape[1] != 3 or not len(tensor)):
            raise ValueError(f"images must have shape [n, 3, height, width], got {list(tensor.shape)}")
    if reference is not None and images.shape[2:] != reference.shape[2:]:
        raise ValueError(
            f"images of {list(images.shape[2:])} px and a reference of {list(reference.shape[2:])} px (height, width) "
            "cannot be compared; crop both alike"
        )
    wanted = inception_metrics(metrics, extractor, confidence=confidence, is_order=is_order)
    wanted += encoder_metrics(metrics, extractor, confidence=confidence)
    if CLIP_SCORE in metrics:
        wanted.append(_of_prompts(extractor, prompts, len(images)))
    for metric in wanted:
        if metric.output not in extractor.widths:
            raise ValueError(
                f"{', '.join(metric.labels.values())} needs the {metric.output} output of Inception"
            )
        if min(len(images), len(images) if reference is None else len(reference)) < metric.least_images:
            raise ValueError(
                f"{', '.join(metric.labels.values())} needs at least {metric.least_images} images"
            )
    lacking = [label for metric in wanted if metric.reference is not None for label in metric.labels.values()]
    if reference is None and lacking:
        raise ValueError(f"{', '.join(lacking)}: these compare with a reference; give one")

    def statistics(images: Tensor, *, of_reference: bool) -> Statistics:
        collector = Collector(
            needs(wanted, of_reference=of_reference), count=len(images), device=images.device, shared=False
        )
        for positions in torch.arange(len(images)).split(_BLOCK):
            collector.update(positions, images[positions.to(images.device)])
        return collector.compute()

    real = {} if reference is None else statistics(reference, of_reference=True)
    return compute(wanted, statistics(images, of_reference=False), real)


def _of_prompts(extractor: FeatureExtractor, prompts: Sequence[str] | None, count: int) -> SetMetric:
    if not isinstance(extractor, PromptExtractor):
        raise ValueError(
            f"{CLIP_SCORE} needs features of texts, too, which {extractor.name} lacks; give a CLIP"
        )
    if prompts is None or isinstance(prompts, str) or len(prompts) != count:
        given = "none" if prompts is None else "a single text" if isinstance(prompts, str) else len(prompts)
        raise ValueError(
            f"{CLIP_SCORE} needs prompts, a list with one for each of the {count} images; got {given}"
        )
    return clip_metric(extractor, prompts, shared=False)
