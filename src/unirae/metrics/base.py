"""Scores, and the one interface of scores of pairs."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from jaxtyping import UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score and its uncertainty.

    Attributes:
        value: the score.
        standard_error: how much the score of other images of the same kind would differ by chance; None if unknown.
        method: how the standard error was found.
        details: further figures that belong to the score, plain values.
    """

    value: float
    standard_error: float | None = None
    method: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def uncertainty(self) -> dict[str, Any] | None:
        """The uncertainty for a record: standard error, range of 95 %, and method; None if unknown."""
        if self.standard_error is None and not self.details:
            return None
        known: dict[str, Any] = {}
        if self.standard_error is not None:
            margin = 1.96 * self.standard_error
            known = {
                "standard_error": self.standard_error,
                "low": self.value - margin,
                "high": self.value + margin,
                "method": self.method,
            }
        return {**known, **self.details}


class PairMetric(Protocol):
    """A streaming score of pairs (original, reconstruction): its state is a few sums, no images are kept."""

    @property
    def name(self) -> str:
        """Name of the score."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """Everything a reader needs to know to compare the score, JSON-able."""
        ...

    def update(self, original: UInt8[Tensor, "b 3 H W"], reconstruction: UInt8[Tensor, "b 3 H W"]) -> None:
        """Add a batch of pairs, 8-bit RGB."""
        ...

    def compute(self) -> Estimate:
        """The score over everything seen by all processes; the state stays as it is."""
        ...

    def reset(self) -> None:
        """Forget everything seen."""
        ...
