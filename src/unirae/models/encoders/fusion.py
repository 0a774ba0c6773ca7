"""Fused encoders (RAEv2, section 3): tokens from several blocks of a ViT in one pass, which ends at the deepest one."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError

Combine = Literal["mean", "sum"]
Visitor = Callable[[int, Tensor], None]
"""What is called with the number of a block, from 0, and its tokens [b, n, c]."""


class Fusion:
    """The running combination of normed tokens, block by block, so that no block's tokens are kept.

    z = Σ_i w_i·norm(h_i), w_i = 1/k for the ``mean`` of k blocks and 1 for the ``sum``; with ``add_token_mean`` every
    patch token gains the mean over patches of norm(h_deepest), a surrogate of the class token.

    Args:
        layers: the chosen blocks, in rising order.
        combine: the weights.
        add_token_mean: add the mean over patches of the deepest chosen block.
        norm: the encoder's final norm.
        patches: the number of patch tokens, which stand behind class and register tokens.
        keep: of each image the blocks that :meth:`kept` combines, at least one.
    """

    def __init__(
        self,
        *,
        layers: Sequence[int],
        combine: Combine,
        add_token_mean: bool,
        norm: Callable[[Tensor], Tensor],
        patches: int,
        keep: Bool[Tensor, "b k"] | None = None,
    ) -> None:
        self.layers, self.combine, self.add_token_mean = tuple(layers), combine, add_token_mean
        self.norm, self.patches, self.keep = norm, patches, keep
        self._all: Tensor | None = None
        self._kept: Tensor | None = None
        self._token_mean: Tensor | None = None
        self._seen: list[int] = []

    def __call__(self, layer: int, tokens: Float[Tensor, "b n c"]) -> None:
        """Add the tokens of a chosen block."""
        normed = self.norm(tokens)
        if self.keep is not None:
            counted = normed * self.keep[:, len(self._seen), None, None]
            self._kept = counted if self._kept is None else self._kept + counted
        self._all = normed if self._all is None else self._all + normed
        self._seen.append(layer)
        if layer == self.layers[-1]:
            self._token_mean = normed[:, -self.patches :].mean(dim=1, keepdim=True)

    def result(self) -> Float[Tensor, "b n c"]:
        """The combination of all chosen blocks.

        Raises:
            ConfigError: If the backbone did not go through the chosen blocks in turn.
        """
        return self._finished(self._all, len(self.layers))

    def kept(self) -> Float[Tensor, "b n c"]:
        """The combination of the kept blocks, whose ``mean`` is over these; the mean over patches is the same."""
        assert self.keep is not None
        return self._finished(self._kept, self.keep.sum(dim=1)[:, None, None])

    def _finished(self, total: Tensor | None, count: Tensor | int) -> Tensor:
        if total is None or self._token_mean is None or tuple(self._seen) != self.layers:
            raise ConfigError(
                f"{argument('encoder.layers', list(self.layers))}: this backbone does not go through its blocks one "
                f"after the other (seen: {self._seen}); set it to null"
            )
        if self.combine == "mean":
            total = total / count
        if self.add_token_mean:
            prefix, patches = total[:, : -self.patches], total[:, -self.patches :]
            total = torch.cat([prefix, patches + self._token_mean], dim=1)
        return total


class VisitedBlocks(nn.ModuleList):
    """A backbone's list of blocks that can tell of each block's tokens, and end after the deepest one that is wanted.

    It holds the same modules under the same names. A visit changes what a loop over the list sees: it goes through the
    blocks as ever, as callables. So compiled blocks stay compiled, and nothing is hooked or raised.
    """

    _visit: tuple[frozenset[int], Visitor] | None = None

    @contextmanager
    def visited(self, layers: Sequence[int], visitor: Visitor) -> Iterator[None]:
        """Call ``visitor`` with the tokens of these blocks, and leave out those behind the last of them."""
        self._visit = (frozenset(layers), visitor)
        try:
            yield
        finally:
            self._visit = None

    def __iter__(self) -> Iterator[Any]:
        """The blocks; during a visit as callables, up to the deepest wanted one."""
        blocks = super().__iter__()
        if self._visit is None:
            return blocks
        wanted, visitor = self._visit
        until = itertools.islice(enumerate(blocks), max(wanted) + 1)
        return (
            _Visited(block, partial(visitor, number) if number in wanted else None) for number, block in until
        )


class _Visited:
    """A block whose tokens are told of; its attributes are the block's."""

    def __init__(self, block: nn.Module, visitor: Callable[[Tensor], None] | None) -> None:
        self._block, self._visitor = block, visitor

    def __call__(self, *args: Any, **options: Any) -> Any:
        output = self._block(*args, **options)
        if self._visitor is not None:
            self._visitor(output[0] if isinstance(output, tuple) else output)
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._block, name)


def let_visit(backbone: nn.Module, count: int) -> VisitedBlocks | None:
    """Let a backbone's list of ``count`` blocks be visited; returns it, or None where there is no such list."""
    for parent in backbone.modules():
        for name, child in parent.named_children():
            if isinstance(child, VisitedBlocks):  # of an encoder that shares the backbone
                return child
            if isinstance(child, nn.ModuleList) and len(child) == count:
                blocks = VisitedBlocks(child)
                setattr(parent, name, blocks)
                return blocks
    return None


def check_layers(layers: Sequence[int], count: int | None) -> tuple[int, ...]:
    """The chosen blocks in rising order.

    Args:
        layers: numbers of blocks, from 0.
        count: the number of blocks that the backbone has; None where it does not say.

    Raises:
        ConfigError: If there is none, one twice, or one that does not exist.
    """
    said = argument("encoder.layers", list(layers))
    until = "" if count is None else f"to {count - 1}"
    if any(not isinstance(layer, int) or isinstance(layer, bool) for layer in layers):
        raise ConfigError(f"{said}: name blocks by whole numbers, from 0 {until or 'up'}")
    if not layers:
        raise ConfigError(f"{said}: name at least one block, from 0 {until or 'up'}, or null for the last")
    if missing := [layer for layer in layers if layer < 0 or (count is not None and layer >= count)]:
        raise ConfigError(
            f"{said}: there is no block {missing[0]}; the encoder's blocks are 0 {until or 'and up'}"
        )
    if len(set(layers)) < len(layers):
        raise ConfigError(f"{said} names a block twice")
    return tuple(sorted(layers))
