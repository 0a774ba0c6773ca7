"""torch.compile for the blocks of a network, in place only where one asks for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from unirae.core.hardware import keep_kernels_apart


class BlockCompiler:
    """Blocks of ``networks`` whose operations between the products torch.compile fuses, only while :meth:`in_use`.

    Blocks of one class and of one shape share a graph, so a network of any depth is compiled in seconds, each graph
    when it is first needed; another batch size is another graph. What lies between blocks stays as it is.
    """

    def __init__(self, *networks: nn.Module | None) -> None:
        keep_kernels_apart()
        self._compiled: list[tuple[nn.Module, Any]] = []
        for network in networks:
            for block in [] if network is None else repeated_blocks(network):
                block.compile(dynamic=False)
                self._compiled.append((block, block._compiled_call_impl))
        self.use(False)

    def __len__(self) -> int:
        return len(self._compiled)

    def use(self, wanted: bool) -> None:
        """Put the compiled blocks in place, or the original ones back."""
        for block, compiled in self._compiled:
            block._compiled_call_impl = compiled if wanted else None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Compute with the compiled blocks within the block of code."""
        self.use(True)
        try:
            yield
        finally:
            self.use(False)


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a transformer goes through in turn: the outermost lists and ``Sequential``s of one class."""
    members = list(network.children())
    of_one_class = len(members) > 1 and len({type(member) for member in members}) == 1
    if isinstance(network, nn.ModuleList) or (isinstance(network, nn.Sequential) and of_one_class):
        return members
    return [block for member in members for block in repeated_blocks(member)]
