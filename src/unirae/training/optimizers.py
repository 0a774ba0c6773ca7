"""Optimizers by name: their settings, and one object for the parameters of one network."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch.optim import AdamW, Optimizer

from unirae.core.errors import ConfigError
from unirae.nn.parameter_groups import ParameterGroups


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(ABC):
    """The settings of one kind of optimizer.

    Attributes:
        lr: the learning rate that a schedule starts from.
    """

    lr: float

    @abstractmethod
    def build(self, parameters: ParameterGroups) -> Optimizer:
        """One optimizer for all of a network's trained parameters.

        A group whose rate begins elsewhere than at ``lr`` has the entry ``initial_lr``, which the schedule scales.
        """


@dataclass(frozen=True, kw_only=True)
class AdamWSettings(OptimizerSettings):
    """AdamW's numbers (recipe's table), the same for matrices and others."""

    betas: tuple[float, float]
    weight_decay: float

    def build(self, parameters: ParameterGroups) -> AdamW:
        """Build AdamW with the fused kernel, all parameters in one group."""
        return AdamW(
            parameters.trained,
            lr=self.lr,
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=all(p.device.type in ("cpu", "cuda", "mps") for p in parameters.trained),
        )


OPTIMIZERS: dict[str, type[OptimizerSettings]] = {"adamw": AdamWSettings}
"""The kinds of optimizers by their names in configurations."""


def optimizer_settings(kind: str = "adamw", **settings: Any) -> OptimizerSettings:
    """The settings of an optimizer of :data:`OPTIMIZERS`.

    Raises:
        ConfigError: If there is no such kind.
    """
    if kind not in OPTIMIZERS:
        raise ConfigError(f"kind={kind!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[kind](**settings)
