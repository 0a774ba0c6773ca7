"""Optimizers by name: their settings, and one object for the parameters of one network."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, get_args

from torch.optim import AdamW, Optimizer

from unirae.core.errors import ConfigError
from unirae.core.sharding import is_sharded
from unirae.nn.parameter_groups import Chunks, ParameterGroups


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


@dataclass(frozen=True, kw_only=True)
class MuonSettings(AdamWSettings):
    """Muon for matrices, AdamW for others (RAEv2: recipe, section 7).

    Attributes:
        lr: of both.
        momentum: of Muon, Nesterov's.
        chunks: ``all`` takes apart what several maps share, each q, k, v, gate, up and part of a modulation by itself
            (CMuon, arXiv 2608.02502); ``projections`` all but modulations, as RAEv2 does; ``none`` nothing.
    """

    momentum: float = 0.95
    chunks: Chunks = "all"

    def build(self, parameters: ParameterGroups) -> Optimizer:
        """Build one optimizer with two groups.

        Raises:
            ConfigError: If the parameters are sharded over processes, none of which has whole matrices then.
        """
        from unirae.training.muon import Matrix, Muon

        if self.chunks not in get_args(Chunks):
            raise ConfigError(
                f"chunks={self.chunks!r} is unknown; choose one of {', '.join(get_args(Chunks))}"
            )
        if any(is_sharded(parameter) for parameter in parameters.trained):
            raise ConfigError("Muon makes whole matrices orthogonal, and these parameters are sharded")
        return Muon(
            [Matrix(matrix, parameters.parts(matrix, self.chunks)) for matrix in parameters.matrices],
            parameters.others,
            lr=self.lr,
            momentum=self.momentum,
            betas=self.betas,
            weight_decay=self.weight_decay,
        )


OPTIMIZERS: dict[str, type[OptimizerSettings]] = {"adamw": AdamWSettings, "muon": MuonSettings}
"""The kinds of optimizers by their names in configurations."""


def optimizer_settings(kind: str = "adamw", **settings: Any) -> OptimizerSettings:
    """The settings of an optimizer of :data:`OPTIMIZERS`.

    Raises:
        ConfigError: If there is no such kind.
    """
    if kind not in OPTIMIZERS:
        raise ConfigError(f"kind={kind!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[kind](**settings)
