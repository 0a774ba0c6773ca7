"""Condition of a network: a label for each sample, or the tokens of a text with their mask."""

from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@final
@dataclass(frozen=True, kw_only=True)
class Condition:
    """The tensors of one batch that a network is conditioned on: labels, or tokens with a mask.

    A plain tensor of labels is taken wherever a condition is (:meth:`of`).

    Attributes:
        labels: a class number for each sample.
        tokens: the hidden states of a text encoder for each sample, filled up to one length.
        mask: which of the tokens count; the others are filling. A sample may have none.

    Raises:
        ValueError: If the condition has neither labels nor tokens, or both, or if tokens and mask do not fit.
    """

    labels: Int64[Tensor, " b"] | None = None
    tokens: Float[Tensor, "b l d"] | None = None
    mask: Bool[Tensor, "b l"] | None = None

    def __post_init__(self) -> None:
        if (self.labels is None) == (self.tokens is None):
            raise ValueError("a Condition has labels or tokens, and not both")
        mask_shape = None if self.mask is None else self.mask.shape
        if (None if self.tokens is None else self.tokens.shape[:2]) != mask_shape:
            raise ValueError(
                "the tokens of a Condition have a mask of their batch and length, and labels have none"
            )

    @classmethod
    def of(cls, value: "Condition | Tensor") -> "Condition":
        """Take a condition as it is, and a tensor as labels."""
        return value if isinstance(value, Condition) else cls(labels=value)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._first)

    @property
    def text(self) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """The tokens and their mask, of a condition that has them."""
        assert self.tokens is not None
        assert self.mask is not None
        return self.tokens, self.mask

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self._first.device

    def cat(self, other: "Condition") -> "Condition":
        """Join the samples of both, one after the other; shorter tokens are filled up.

        Raises:
            ValueError: If one condition has labels and the other tokens.
        """
        one, two = self._alike(other)
        return Condition(**{name: torch.cat([one[name], two[name]]) for name in one})

    def where(self, chosen: Bool[Tensor, " b"], other: "Condition") -> "Condition":
        """Choose these samples where ``chosen`` says so, elsewhere those of ``other``.

        Raises:
            ValueError: If one condition has labels and the other tokens.
        """
        one, two = self._alike(other)
        return Condition(
            **{
                name: torch.where(chosen.view(-1, *[1] * (one[name].ndim - 1)), one[name], two[name])
                for name in one
            }
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Condition":
        """The same elsewhere; ``dtype`` is that of tokens, labels stay whole numbers."""
        moved = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return Condition(**{name: t.to(dtype) if t.is_floating_point() else t for name, t in moved.items()})

    def select(self, indices: Int64[Tensor, " n"]) -> "Condition":
        """The samples of these numbers."""
        return Condition(**{name: tensor[indices] for name, tensor in self._tensors().items()})

    @property
    def _first(self) -> Tensor:
        return next(iter(self._tensors().values()))

    def _tensors(self) -> dict[str, Tensor]:
        named: dict[str, Any] = {"labels": self.labels, "tokens": self.tokens, "mask": self.mask}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def _alike(self, other: "Condition") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The tensors of both conditions, of one length."""
        one, two = self._tensors(), other._tensors()
        if one.keys() != two.keys():
            raise ValueError(f"one condition has {', '.join(one)}, the other {', '.join(two)}")
        if self.tokens is not None and other.tokens is not None:
            length = max(self.tokens.shape[1], other.tokens.shape[1])
            one, two = _filled(one, length), _filled(two, length)
        return one, two


def _filled(tensors: dict[str, Tensor], length: int) -> dict[str, Tensor]:
    """Fill tokens and mask up to a length: zeros that do not count."""
    more = length - tensors["tokens"].shape[1]
    return {"tokens": F.pad(tensors["tokens"], (0, 0, 0, more)), "mask": F.pad(tensors["mask"], (0, more))}
