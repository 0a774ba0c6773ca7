"""Parts of a run that a caller from Python brings, in place of those that the configuration names.

Checkpoints carry configurations, so what one names is data from elsewhere, and only this package's own classes are
built from it (:func:`~unirae.app.config.targets.locate`). A part that the caller hands over needs no such care.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from unirae.core.errors import InputError
from unirae.losses.perceptual import GivenLoss
from unirae.models.encoders.base import Encoder

PerceptualLoss = Callable[[Tensor, Tensor], Tensor]
"""A function from reconstruction and target, both [b, 3, H, W] and RGB in [0, 1], to a scalar."""


@dataclass(frozen=True, kw_only=True)
class OwnParts:
    """An encoder and a perceptual loss in place of the configured ones; None leaves those."""

    encoder: Encoder | None = None
    perceptual: PerceptualLoss | None = None

    def of_run(self, config: dict[str, Any], experiment: str) -> dict[str, nn.Module]:
        """The given parts as modules, by name; the configuration that the run keeps says what they are.

        Raises:
            InputError: If a part is no encoder or loss, or if this run has no place for the part.
        """
        from unirae.app.run.stages import STAGES  # which loads Lightning

        stage = config["model"]["stage"]
        given = {f.name: part for f in fields(self) if (part := getattr(self, f.name)) is not None}
        for name in given:
            if name not in STAGES[stage].own_parts:
                stages = " and ".join(other.name for other in STAGES.values() if name in other.own_parts)
                raise InputError(f"{name}= is for {stages}; experiment={experiment} trains {stage}")
        parts: dict[str, nn.Module] = {}
        if self.encoder is not None:
            parts["encoder"] = _encoder(self.encoder, config["model"])
        if self.perceptual is not None:
            parts["perceptual"] = _loss(self.perceptual, config["model"])
        return parts


def _encoder(encoder: Encoder, model: dict[str, Any]) -> Encoder:
    if not isinstance(encoder, Encoder):
        raise InputError(
            f"encoder= must be an Encoder, as build_encoder gives it, not {type(encoder).__name__}"
        )
    identity = encoder.identity_without_hash
    weights = identity.source if identity.weights == "path" else identity.weights
    said = {"kind": identity.kind, "name": identity.name, "weights": weights, "architecture": identity.config}
    model["encoder"] = {
        **model["encoder"],
        **said,
        "mean": [*identity.pixel_mean],
        "std": [*identity.pixel_std],
    }
    return encoder


def _loss(loss: PerceptualLoss, model: dict[str, Any]) -> nn.Module:
    if not callable(loss):
        raise InputError(f"perceptual={loss!r} must be a function of (reconstruction, target)")
    if not model["perceptual_weight"]:
        raise InputError(
            "perceptual= would not be used: model.perceptual_weight is 0; set it to the loss's weight"
        )
    what = loss if isinstance(loss, type | FunctionType) else type(loss)
    model["perceptual"] = {"_target_": f"{what.__module__}.{what.__qualname__}"}
    return GivenLoss(loss)
