"""Choosing a linear head: candidates are compared on a part of the training split that is held out class by class."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from unirae.core.errors import ConfigError, DataError
from unirae.evaluation.probe.knn import KnnSettings
from unirae.evaluation.probe.linear_heads import LinearHead, SgdSettings, Standardisation, fit_lbfgs, fit_sgd


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """Settings of fitting and choosing heads.

    Attributes:
        optimizer: ``lbfgs`` or ``sgd``, see :mod:`unirae.evaluation.probe.linear_heads`.
        learning_rates: candidates for SGD; L-BFGS has none.
        weight_decays: candidates.
        held_out: part of each class of the training split on which they are compared.
        seed: of that part and of SGD's batches.
    """

    optimizer: Literal["lbfgs", "sgd"] = "lbfgs"
    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    weight_decays: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    held_out: float = 0.2
    seed: int = 0
    sgd: SgdSettings = field(default_factory=SgdSettings)
    knn: KnnSettings = field(default_factory=KnnSettings)

    def __post_init__(self) -> None:
        if self.optimizer not in ("lbfgs", "sgd"):
            raise ConfigError(f"optimizer={self.optimizer!r} is unknown; choose lbfgs or sgd")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out={self.held_out} must lie between 0 and 1")
        rates, decays = self.learning_rates, self.weight_decays
        if not rates or not all(0 < rate < math.inf for rate in rates):
            raise ConfigError(f"learning_rates={_listed(rates)} must be positive, at least one")
        if not decays or not all(0 <= decay < math.inf for decay in decays):
            raise ConfigError(f"weight_decays={_listed(decays)} must be 0 or more, at least one")

    def describe(self) -> dict[str, Any]:
        """The settings that decide the scores, for the record: nothing of an optimizer that was not used."""
        unused = ("learning_rates", "sgd") if self.optimizer == "lbfgs" else ()
        return {key: value for key, value in asdict(self).items() if key not in unused}


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def search(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    num_classes: int,
    settings: ProbeSettings,
) -> list[dict[str, Any]]:
    """Try each candidate; gives its accuracy and loss (None: it diverged) on the held-out part of the training split.

    Raises:
        DataError: If all images are of one class, or no class has two, so that none can be held out.
    """
    if len(labels.unique()) < 2:
        raise DataError("all training images are of one class; a probe needs images of two classes or more")
    fitted, held = stratified_split(labels.cpu(), settings.held_out, seed=settings.seed)
    fitted, held = fitted.to(labels.device), held.to(labels.device)
    standardise = Standardisation.of(features[fitted])
    rates = settings.learning_rates if settings.optimizer == "sgd" else (None,)
    choices = [(rate, decay) for rate in rates for decay in settings.weight_decays]
    heads = fit_heads(
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
        loss = float(F.cross_entropy(logits, wanted))
        tried.append(
            {
                "learning_rate": rate,
                "weight_decay": decay,
                "held_out_top1": share(logits.argmax(1) == wanted) if finite else 0.0,
                "held_out_loss": loss if math.isfinite(loss) else None,
            }
        )
    return tried


def stratified_split(
    labels: Int64[Tensor, " n"], fraction: float, *, seed: int
) -> tuple[Int64[Tensor, " a"], Int64[Tensor, " b"]]:
    """Split into (kept, held out), in ascending order: of each class ``fraction``, at least one but never the last.

    Raises:
        DataError: If no class has two images.
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


def fit_heads(
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


def share(right: Tensor) -> float:
    """The share of true values."""
    return float(right.double().mean())
