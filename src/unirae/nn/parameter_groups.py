"""Groups of the trained parameters of a network: matrices, and others, for optimizers such as Muon."""

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

Chunks = Literal["all", "projections", "none"]
"""Which of the weights that several maps share are taken apart: all of them, those of projections, none."""


class Shared(NamedTuple):
    """A weight that several maps of one size share, below each other.

    Attributes:
        parts: the number of maps.
        kind: projections (q, k and v; gate and up), or the parts of a modulation.
    """

    weight: Tensor
    parts: int
    kind: Literal["projections", "modulation"]


@runtime_checkable
class SharesWeight(Protocol):
    """A module with such a weight."""

    def shared_weight(self) -> Shared:
        """The weight that its maps share."""
        ...


class ParameterGroups:
    """The trained parameters of one network, each in one of two groups.

    Args:
        network: whose parameters that require gradients are meant.
        matrices: names of those that an optimizer for matrices updates, two-dimensional.
        others: names of all others.

    Raises:
        ValueError: If a trained parameter is in none of the groups or in both, or if a name is no parameter's.
    """

    def __init__(self, network: nn.Module, *, matrices: Iterable[str], others: Iterable[str]) -> None:
        matrices, others = set(matrices), set(others)
        parameters = dict(network.named_parameters())
        trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        _refuse(matrices & others, "in both groups, matrices and others", network)
        _refuse(trained.keys() - matrices - others, "in no group, neither matrices nor others", network)
        _refuse((matrices | others) - parameters.keys(), "no parameter", network)
        self.trained: list[nn.Parameter] = list(trained.values())
        """All, in the order in which the network registers them: that of optimizer states in checkpoints."""
        self.matrices = [parameter for name, parameter in trained.items() if name in matrices]
        self.others = [parameter for name, parameter in trained.items() if name in others]
        shared = (module.shared_weight() for module in network.modules() if isinstance(module, SharesWeight))
        self._shared = {id(found.weight): found for found in shared}

    def parts(self, matrix: nn.Parameter, chunks: Chunks) -> int:
        """The number of matrices below each other that an optimizer is to see in one of :attr:`matrices`."""
        found = self._shared.get(id(matrix))
        if found is None or chunks == "none" or (chunks == "projections" and found.kind == "modulation"):
            return 1
        return found.parts


def group_parameters(
    network: nn.Module, *, edges: Collection[str] = (), tables: Collection[str] = ()
) -> ParameterGroups:
    """Sort a network's parameters as the field does for Muon (Jordan et al. 2024).

    Weights of linear layers are matrices, except at the edges. Biases, norms, convolutions and everything else that
    is not two-dimensional are no matrices. Any other two-dimensional parameter has to be named as an edge or a table.

    Args:
        edges: names of modules or parameters where the network begins and ends: embeddings, positions, learned
            tokens, the first and the last layer.
        tables: names of those whose two-dimensional parameters are matrices although no linear layer has them.

    Raises:
        ValueError: If a two-dimensional parameter is neither a linear layer's nor at an edge nor in a table, or if a
            name of ``edges`` or ``tables`` is no part of the network.
    """
    linear = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    matrices, others, seen = [], [], set()
    for name, parameter in network.named_parameters():
        edge, table = _named(name, edges), _named(name, tables)
        seen |= edge | table
        if edge or parameter.ndim != 2:
            others.append(name)
        elif table or name in linear:
            matrices.append(name)
    _refuse({*edges, *tables} - seen, "no part with parameters", network)
    return ParameterGroups(network, matrices=matrices, others=others)


def _named(name: str, parts: Collection[str]) -> set[str]:
    """Those of the parts that a parameter is, or lies in."""
    return {part for part in parts if f"{name}.".startswith(f"{part}.")}


def _refuse(names: Collection[str], what: str, network: nn.Module) -> None:
    if names:
        verb = "is" if len(names) == 1 else "are"
        raise ValueError(
            f"parameter groups of {type(network).__name__}: {', '.join(sorted(names))} {verb} {what}"
        )
