"""Linear classifiers on frozen features: L2-regularised softmax regression, by L-BFGS or by mini-batch SGD.

Both minimise mean cross-entropy + ½·wd·‖W‖²; the bias is not regularised. L-BFGS goes to the minimum of this convex
problem, in float64, so it has no learning rate and its result depends on nothing but features and wd (wd = 1 / (C·n) in
scikit-learn's terms). SGD (momentum, cosine to zero, as linear probes are published) stops when its epochs are over, in
float32; all learning rates and weight decays of a search are trained side by side on the same batches.

Features come in standardised (:class:`Standardisation`); weight decay means the same for every encoder then.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from unirae.core.errors import ConfigError, NonFiniteError


@dataclass(frozen=True, kw_only=True)
class Standardisation:
    """Standardise: (x − mean) / std with the moments of the training part, in float64; constant columns become 0."""

    mean: Float[Tensor, " d"]
    std: Float[Tensor, " d"]

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> "Standardisation":
        """Compute the moments of ``features``."""
        variance, mean = torch.var_mean(features.double(), dim=0, correction=0)
        std = variance.sqrt()
        constant = std <= 1e-8 * (1 + mean.abs())
        return cls(mean=mean, std=torch.where(constant, torch.inf, std))

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Standardise, in float64."""
        return (features.double() - self.mean) / self.std


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """Linear head: logits = x·weightᵀ + bias."""

    weight: Float[Tensor, "k d"]
    bias: Float[Tensor, " k"]

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Logits, in the head's precision."""
        return F.linear(features.to(self.weight.dtype), self.weight, self.bias)


def fit_lbfgs(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    num_classes: int,
    weight_decay: float,
    tolerance: float = 1e-5,
) -> LinearHead:
    """The minimum, from zero weights, in float64; done where no gradient is larger than ``tolerance``.

    Raises:
        NonFiniteError: If no head can be found, for features are not finite.
    """
    x = features.double()
    weight = x.new_zeros(num_classes, x.shape[1], requires_grad=True)
    bias = x.new_zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=500,
        history_size=20,
        tolerance_grad=tolerance,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), labels) + 0.5 * weight_decay * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    head = LinearHead(weight=weight.detach(), bias=bias.detach())
    _check_finite([head])
    return head


@dataclass(frozen=True, kw_only=True)
class SgdSettings:
    """Mini-batch SGD with momentum and a cosine from the learning rate to zero."""

    epochs: int = 50
    batch_size: int = 256
    momentum: float = 0.9

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            if value < 1:
                raise ConfigError(f"{name}={value} must be at least 1")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum={self.momentum} must be 0 or more and less than 1")


def fit_sgd(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    num_classes: int,
    choices: Sequence[tuple[float, float]],
    settings: SgdSettings,
    seed: int,
) -> list[LinearHead]:
    """One head for each (learning rate, weight decay), from zero weights, in float32.

    They see the same batches in the same order, a function of ``seed``; a head does not depend on those beside it.

    Raises:
        NonFiniteError: If every head diverged.
    """
    x = features.float()
    order = Generator().manual_seed(seed)
    rates, decays = (x.new_tensor(values).view(-1, 1, 1) for values in zip(*choices, strict=True))
    weight = x.new_zeros(len(choices), num_classes, x.shape[1])
    bias = x.new_zeros(len(choices), num_classes, 1)
    weight_velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    steps = settings.epochs * math.ceil(len(x) / settings.batch_size)
    for step, batch in enumerate(_batches(len(x), settings, order)):
        batch = batch.to(x.device)
        inputs = x[batch]
        logits = weight @ inputs.T + bias  # [heads, classes, images]
        error = logits.softmax(1)
        error[:, labels[batch], torch.arange(len(batch), device=x.device)] -= 1  # ∂ cross-entropy / ∂ logits
        error /= len(batch)
        rate = rates * (0.5 * (1 + math.cos(math.pi * step / steps)))
        weight_velocity.mul_(settings.momentum).add_(error @ inputs).add_(decays * weight)
        bias_velocity.mul_(settings.momentum).add_(error.sum(2, keepdim=True))
        weight -= rate * weight_velocity
        bias -= rate * bias_velocity
    heads = [LinearHead(weight=w, bias=b[:, 0]) for w, b in zip(weight, bias, strict=True)]
    _check_finite(heads)
    return heads


def _batches(images: int, settings: SgdSettings, order: Generator) -> Iterator[Int64[Tensor, " b"]]:
    """Numbers of images: every epoch in a new order, the last batch of an epoch may be shorter."""
    for _ in range(settings.epochs):
        yield from torch.randperm(images, generator=order).split(settings.batch_size)


def _check_finite(heads: Sequence[LinearHead]) -> None:
    if not any(bool(head.weight.isfinite().all()) for head in heads):
        raise NonFiniteError("no linear head stayed finite: lower the learning rates, and check the features")
