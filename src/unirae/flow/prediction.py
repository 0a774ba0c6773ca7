"""Meaning of a network's output: the velocity of the path, or its data end; and every conversion between them.

On the straight path x_t = (1 − t)·x + t·ε a point, a time and any one of velocity, data and noise say the other two. So
a network may predict one and be trained or sampled by another: RAE predicts the velocity v = ε − x, JiT (Li and He,
arXiv 2511.13720) and RAEv2 (arXiv 2605.18324) the data x. Everything is computed in float32 or wider.
"""

from enum import Enum

from jaxtyping import Float
from torch import Tensor

from unirae.core.errors import ConfigError
from unirae.core.precision import full_precision
from unirae.flow.path import PathSample, beside, velocity_loss

CLAMP = 0.05
"""RAEv2 divides by no smaller time, in its loss and in sampling (its ``t_eps``)."""


class Prediction(Enum):
    """Meaning of a network's output."""

    VELOCITY = "velocity"
    DATA = "data"

    @classmethod
    def named(cls, name: "str | Prediction") -> "Prediction":
        """The member of a name.

        Raises:
            ConfigError: If there is no prediction of that name.
        """
        try:
            return cls(name)
        except ValueError:
            known = " or ".join(member.value for member in cls)
            raise ConfigError(f"prediction={name!r} is unknown; choose {known}") from None

    @property
    def t_min(self) -> float:
        """The clamp of the loss: none for a velocity, as in RAE; RAEv2's for data, which need one."""
        return 0.0 if self is Prediction.VELOCITY else CLAMP

    @property
    def divides_by_time(self) -> bool:
        """Whether the velocity of such an output exists for t > 0 only."""
        return self is Prediction.DATA

    def velocity(
        self, output: Float[Tensor, "b ..."], xt: Float[Tensor, "b ..."], t: Float[Tensor, " b"] | float
    ) -> Float[Tensor, "b ..."]:
        """The predicted velocity: v = (x_t − x̂)/t of predicted data, exactly, so for t > 0 only; else as it is."""
        return output if self is Prediction.VELOCITY else velocity_from_data(xt, output, t)

    def data(
        self, output: Float[Tensor, "b ..."], xt: Float[Tensor, "b ..."], t: Float[Tensor, " b"] | float
    ) -> Float[Tensor, "b ..."]:
        """The predicted data: x̂ = x_t − t·v of a predicted velocity; predicted data as they are."""
        return output if self is Prediction.DATA else data_from_velocity(xt, output, t)


def prediction_loss(
    prediction: Prediction,
    output: Float[Tensor, "b ..."],
    sample: PathSample,
    t: Float[Tensor, " b"],
    *,
    t_min: float = 0.0,
) -> Float[Tensor, " b"]:
    """The flow-matching loss of each sample: the mean over its elements of (v̂ − v)², both under one clamp.

    v = (x_t − x)/max(t, t_min), which is ε − x from t_min on; v̂ = (x_t − x̂)/max(t, t_min) of predicted data, so there
    the loss is the mean of (x̂ − x)²/max(t, t_min)² (RAEv2's transport). A predicted velocity is compared as it is.

    Args:
        t_min: in [0, 1); 0 is no clamp, and predicted data need one.

    Raises:
        ConfigError: If data are predicted and t_min is 0: the loss would be infinite at t = 0.
    """
    if prediction is Prediction.DATA:
        if t_min <= 0:
            raise ConfigError("t_min=0 divides by t = 0 where data are predicted; 0.05 is RAEv2's")
        clamped = beside(t.clamp_min(t_min), sample.xt)
        return velocity_loss(full_precision(output) / clamped, sample.data / clamped)
    return velocity_loss(output, clamped_velocity(sample.velocity, t, t_min))


def clamped_velocity(
    velocity: Float[Tensor, "b ..."], t: Float[Tensor, " b"] | float, t_min: float
) -> Float[Tensor, "b ..."]:
    """(x_t − x)/max(t, t_min) in place of (x_t − x)/t: the velocity times t/max(t, t_min); unchanged at t_min 0."""
    if t_min <= 0:
        return velocity
    share = t / t.clamp_min(t_min) if isinstance(t, Tensor) else t / max(t, t_min)
    return full_precision(velocity) * beside(share, velocity)


def velocity_from_data(
    xt: Float[Tensor, "b ..."], data: Float[Tensor, "b ..."], t: Float[Tensor, " b"] | float
) -> Float[Tensor, "b ..."]:
    """The velocity of the path from its data end, (x_t − x)/t, for t > 0."""
    return (full_precision(xt) - full_precision(data)) / beside(t, xt)


def data_from_velocity(
    xt: Float[Tensor, "b ..."], velocity: Float[Tensor, "b ..."], t: Float[Tensor, " b"] | float
) -> Float[Tensor, "b ..."]:
    """The data end of the path, x_t − t·v; of a predicted velocity the expected data E[x | x_t]."""
    return full_precision(xt) - beside(t, xt) * full_precision(velocity)


def noise_from_velocity(
    xt: Float[Tensor, "b ..."], velocity: Float[Tensor, "b ..."], t: Float[Tensor, " b"] | float
) -> Float[Tensor, "b ..."]:
    """The noise end of the path, x_t + (1 − t)·v; of a predicted velocity E[ε | x_t] = −t · score(x_t)."""
    return full_precision(xt) + (1 - beside(t, xt)) * full_precision(velocity)
