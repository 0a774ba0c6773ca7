"""The linear probe: how well a linear classifier and nearest neighbours tell classes apart in frozen features.

Settings are chosen on a part of the *training* split that is held out, class by class; then a head is fitted to the
whole training split, and the validation split is looked at once. So its score is no maximum over choices, and its
standard error means what it says.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from unirae.core.errors import ConfigError, DataError
from unirae.core.io import write_json
from unirae.evaluation.knn import KnnSettings, knn_votes
from unirae.evaluation.linear_heads import (
    LinearHead,
    SgdSettings,
    Standardisation,
    fit_lbfgs,
    fit_sgd,
)
from unirae.evaluation.probe_features import Features

TOP5_CLASSES = 6
"""With fewer classes the right one is always among five."""


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How heads are fitted and chosen.

    Attributes:
        optimizer: ``lbfgs`` or ``sgd``, see :mod:`unirae.evaluation.linear_heads`.
        learning_rates: candidates for SGD; L-BFGS has none.
        weight_decays: candidates.
        held_out: part of each class of the training split on which they are compared.
        seed: of that part and of SGD's batches.
    """

    optimizer: Literal["lbfgs", "sgd"] = "lbfgs"
    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    weight_decays: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    held_out: float = 0.2
    seed: int = 0
    sgd: SgdSettings = field(default_factory=SgdSettings)
    knn: KnnSettings = field(default_factory=KnnSettings)

    def __post_init__(self) -> None:
        if self.optimizer not in ("lbfgs", "sgd"):
            raise ConfigError(f"optimizer={self.optimizer!r} is unknown; choose lbfgs or sgd")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out={self.held_out} must lie between 0 and 1")
        rates = self.learning_rates if self.optimizer == "sgd" else (1.0,)
        if not rates or not self.weight_decays or min(rates) <= 0 or min(self.weight_decays) < 0:
            raise ConfigError(
                "learning rates must be positive, weight decays 0 or more, with at least one of each"
            )


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
        DataError: no class has two training images.
        NonFiniteError: no head could be fitted.
    """
    x, labels = training.values.to(device), training.labels.to(device)
    tried = search(x, labels, num_classes=num_classes, settings=settings)
    best = max(range(len(tried)), key=lambda i: (tried[i]["held_out_top1"], -tried[i]["held_out_loss"]))
    chosen = (tried[best]["learning_rate"], tried[best]["weight_decay"])
    standardise = Standardisation.of(x)
    (head,) = _fit(standardise(x), labels, num_classes=num_classes, choices=[chosen], settings=settings)
    queries, wanted = validation.values.to(device), validation.labels.to(device)
    logits = head(standardise(queries))
    votes = knn_votes(queries, x, labels, num_classes=num_classes, settings=settings.knn)
    correct = (logits.argmax(1) == wanted).cpu()
    metrics = {"top1": _share(correct)}
    if num_classes >= TOP5_CLASSES:
        metrics["top5"] = _share((logits.topk(5, dim=1).indices == wanted[:, None]).any(1))
    metrics["knn"] = _share(votes.argmax(1) == wanted)
    cells = torch.bincount(wanted * num_classes + logits.argmax(1), minlength=num_classes**2)
    return ProbeResult(
        metrics=metrics,
        uncertainty={name: math.sqrt(p * (1 - p) / len(validation)) for name, p in metrics.items()},
        count=len(validation),
        settings={
            **(about or {}),
            **asdict(settings),
            "knn": {**asdict(settings.knn), "k": settings.knn.neighbours(len(training))},
            "training_images": len(training),
            "num_classes": num_classes,
            "feature_width": training.values.shape[1],
            "chosen": tried[best],
            "tried": tried,
        },
        warnings=_warnings(training, validation, tried, best, num_classes=num_classes, settings=settings),
        confusion=cells.view(num_classes, num_classes).cpu(),
        correct=correct,
    )


def search(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    num_classes: int,
    settings: ProbeSettings,
) -> list[dict[str, Any]]:
    """Each candidate with its accuracy and loss on the held-out part of the training split.

    Raises:
        DataError: no class has two images, so none can be held out.
    """
    fitted, held = stratified_split(labels.cpu(), settings.held_out, seed=settings.seed)
    fitted, held = fitted.to(labels.device), held.to(labels.device)
    standardise = Standardisation.of(features[fitted])
    rates = settings.learning_rates if settings.optimizer == "sgd" else (None,)
    choices = [(rate, decay) for rate in rates for decay in settings.weight_decays]
    heads = _fit(
        standardise(features[fitted]),
        labels[fitted],
        num_classes=num_classes,
        choices=choices,
        settings=settings,
    )
    inputs, wanted = standardise(features[held]), labels[held]
    tried = []
    for (rate, decay), head in zip(choices, heads, strict=True):
        logits = head(inputs)
        finite = bool(logits.isfinite().all())
        tried.append(
            {
                "learning_rate": rate,
                "weight_decay": decay,
                "held_out_top1": _share(logits.argmax(1) == wanted) if finite else 0.0,
                "held_out_loss": float(F.cross_entropy(logits, wanted)) if finite else math.inf,
            }
        )
    return tried


def stratified_split(
    labels: Int64[Tensor, " n"], fraction: float, *, seed: int
) -> tuple[Int64[Tensor, " a"], Int64[Tensor, " b"]]:
    """(kept, held out), in ascending order: of each class ``fraction``, at least one image but never the last.

    Raises:
        DataError: no class has two images.
    """
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        count = min(max(1, round(fraction * len(own))), len(own) - 1)
        held[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    if not held.any():
        raise DataError("no class has two training images, so none can be held out to choose settings on")
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def compare(result: ProbeResult, other: ProbeResult) -> dict[str, float]:
    """How much more of the same images ``result`` gets right than ``other``, in top-1, and its standard error.

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


def _fit(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    num_classes: int,
    choices: Sequence[tuple[float | None, float]],
    settings: ProbeSettings,
) -> list[LinearHead]:
    """A head for each (learning rate, weight decay)."""
    if settings.optimizer == "lbfgs":
        return [
            fit_lbfgs(features, labels, num_classes=num_classes, weight_decay=decay) for _, decay in choices
        ]
    return fit_sgd(
        features,
        labels,
        num_classes=num_classes,
        choices=[(rate or 0.0, decay) for rate, decay in choices],
        settings=settings.sgd,
        seed=settings.seed,
    )


def _share(right: Tensor) -> float:
    return float(right.double().mean())


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
        warnings.append(f"{len(unseen)} classes have no training image; their images count as wrong")
    if replaced := training.replaced + validation.replaced:
        warnings.append(f"{replaced} unreadable images were replaced by others")
    for name, candidates in (
        ("learning_rate", settings.learning_rates),
        ("weight_decay", settings.weight_decays),
    ):
        value = tried[best][name]
        if value is not None and len(candidates) > 1 and value in (min(candidates), max(candidates)):
            warnings.append(f"the best {name}, {value:g}, is at the end of the search; widen it")
    return warnings
