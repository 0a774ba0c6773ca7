"""The linear probe: how well a linear classifier and nearest neighbours tell classes apart in frozen features.

Settings are chosen on a part of the *training* split that is held out, class by class; then a head is fitted to the
whole training split, and the validation split is looked at once. So its score is no maximum over choices, and its
standard error means what it says.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from unirae.core.io import write_json
from unirae.core.names import count_of
from unirae.evaluation.probe.features import Features
from unirae.evaluation.probe.head_search import ProbeSettings, fit_heads, search, share
from unirae.evaluation.probe.knn import knn_votes
from unirae.evaluation.probe.linear_heads import Standardisation

TOP5_CLASSES = 6
"""Least number of classes for top-5 accuracy: with fewer the right one is always among five."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Scores of one set of features on the validation split.

    Attributes:
        metrics: ``top1``, ``top5`` (with six classes or more) and ``knn``: shares in [0, 1].
        uncertainty: their standard errors, √(p(1 − p) / n).
        count: validation images.
        settings: everything that was set, chosen and tried.
        warnings: what a reader of the numbers should know.
        confusion: images of class i (row) that were assigned to class j.
        correct: which validation images the linear head got right.
    """

    metrics: dict[str, float]
    uncertainty: dict[str, float]
    count: int
    settings: dict[str, Any]
    warnings: list[str]
    confusion: Int64[Tensor, "k k"]
    correct: Bool[Tensor, " n"]


def evaluate_probe(
    training: Features,
    validation: Features,
    *,
    num_classes: int,
    settings: ProbeSettings,
    device: torch.device | str = "cpu",
    about: Mapping[str, Any] | None = None,
) -> ProbeResult:
    """Choose a head on a held-out part of ``training``, fit it to all of it, score it once on ``validation``.

    Args:
        about: what the caller knows of encoder and data, kept with the settings.

    Raises:
        DataError: If the training images are of one class, or no class has two.
        NonFiniteError: If no head could be fitted.
    """
    x, labels = training.values.to(device), training.labels.to(device)
    tried = search(x, labels, num_classes=num_classes, settings=settings)
    best = max(range(len(tried)), key=lambda i: _merit(tried[i]))
    chosen = (tried[best]["learning_rate"], tried[best]["weight_decay"])
    standardise = Standardisation.of(x)
    (head,) = fit_heads(standardise(x), labels, num_classes=num_classes, choices=[chosen], settings=settings)
    queries, wanted = validation.values.to(device), validation.labels.to(device)
    logits = head(standardise(queries))
    votes = knn_votes(queries, x, labels, num_classes=num_classes, settings=settings.knn)
    metrics, uncertainty = accuracies(logits, wanted)
    metrics["knn"] = share(votes.argmax(1) == wanted)
    uncertainty["knn"] = standard_error(metrics["knn"], len(validation))
    cells = torch.bincount(wanted * num_classes + logits.argmax(1), minlength=num_classes**2)
    return ProbeResult(
        metrics=metrics,
        uncertainty=uncertainty,
        count=len(validation),
        settings={
            **(about or {}),
            **settings.describe(),
            "knn": {**asdict(settings.knn), "k": settings.knn.neighbours(len(training))},
            "training_images": len(training),
            "num_classes": num_classes,
            "feature_width": training.values.shape[1],
            "chosen": tried[best],
            "tried": tried,
        },
        warnings=_warnings(training, validation, tried, best, num_classes=num_classes, settings=settings),
        confusion=cells.view(num_classes, num_classes).cpu(),
        correct=(logits.argmax(1) == wanted).cpu(),
    )


def _merit(tried: dict[str, Any]) -> tuple[float, float]:
    """Rank of a candidate: accuracy, then loss, which one that diverged has none of."""
    loss = tried["held_out_loss"]
    return tried["held_out_top1"], -math.inf if loss is None else -loss


def accuracies(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]
) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracies ``top1``, with six classes or more ``top5``, as shares in [0, 1]; and their standard errors."""
    metrics = {"top1": share(logits.argmax(1) == labels)}
    if logits.shape[1] >= TOP5_CLASSES:
        metrics["top5"] = share((logits.topk(5, dim=1).indices == labels[:, None]).any(1))
    return metrics, {name: standard_error(share, len(labels)) for name, share in metrics.items()}


def standard_error(share: float, count: int) -> float:
    """Standard error of a share of independent images (binomial)."""
    return math.sqrt(share * (1 - share) / count)


def compare(result: ProbeResult, other: ProbeResult) -> dict[str, float]:
    """Difference in top-1 of ``result`` to ``other`` on the same images, and its standard error.

    The images are the same, so the error is that of the mean of differences: smaller than of two separate scores.
    """
    difference = result.correct.double() - other.correct.double()
    error = difference.std(correction=0) / math.sqrt(len(difference))
    return {"top1": float(difference.mean()), "standard_error": float(error)}


def write_probe(path: str | Path, result: ProbeResult, *, baselines: dict[str, ProbeResult]) -> Path:
    """Write scores, settings and baselines as JSON, atomically."""
    of_baselines = {
        name: {**_plain(other), "gain_over_it": compare(result, other)} for name, other in baselines.items()
    }
    return write_json(path, {**_plain(result), "baselines": of_baselines})


def _plain(result: ProbeResult) -> dict[str, Any]:
    return {key: value for key, value in vars(result).items() if key not in ("confusion", "correct")}


def _warnings(
    training: Features,
    validation: Features,
    tried: list[dict[str, Any]],
    best: int,
    *,
    num_classes: int,
    settings: ProbeSettings,
) -> list[str]:
    warnings = []
    k = settings.knn.neighbours(len(training))
    if k < settings.knn.k:
        warnings.append(f"k-NN asks {k} neighbours, not {settings.knn.k}: there are no more training images")
    if num_classes < TOP5_CLASSES:
        warnings.append(f"no top5: with {num_classes} classes it would say nothing")
    unseen = set(validation.labels.tolist()) - set(training.labels.tolist())
    if unseen:
        classes = count_of(len(unseen), "class", "classes")
        warnings.append(f"no training image is of {classes} of the validation images, which count as wrong")
    if replaced := training.replaced + validation.replaced:
        warnings.append(f"others stand in for {count_of(replaced, 'unreadable image')}")
    for name, candidates in (
        ("learning_rate", settings.learning_rates),
        ("weight_decay", settings.weight_decays),
    ):
        value = tried[best][name]
        if value is not None and len(candidates) > 1 and value in (min(candidates), max(candidates)):
            warnings.append(f"the best {name}, {value:g}, is at the end of the search; widen it")
    return warnings
