"""The one interface of reconstruction metrics."""

from typing import Any, Protocol

from jaxtyping import UInt8
from torch import Tensor


class ReconstructionMetric(Protocol):
    """A streaming score of pairs (original, reconstruction): its state is a few sums, no images are kept."""

    @property
    def name(self) -> str:
        """The score's name; ``r`` and the extractor for Fréchet distances."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """Everything a reader needs to know to compare the score, JSON-able."""
        ...

    def update(self, original: UInt8[Tensor, "b 3 H W"], reconstruction: UInt8[Tensor, "b 3 H W"]) -> None:
        """Add a batch of pairs, 8-bit RGB."""
        ...

    def compute(self) -> dict[str, float]:
        """The score by name over everything seen by all processes; the state stays as it is."""
        ...

    def reset(self) -> None:
        """Forget everything seen."""
        ...
