"""Compilation by torch.compile of the blocks of the networks that a step runs."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from unirae.core.arguments import argument
from unirae.core.log import get_logger
from unirae.training.manual import ManualModule

log = get_logger(__name__)


class CompiledBlocks(pl.Callback):
    """Callback that lets torch.compile fuse the operations between the products of each block, within steps only.

    Blocks of one class and of one shape share a graph, so a network of any depth is compiled in seconds. What lies
    between blocks stays as it is: stage 1 asks for the gradient of the decoder's last layer alone, and a graph of the
    whole decoder would walk through all of its backward pass to answer. Samples and scores are made without: their
    batches have other sizes, each of which would be compiled anew.
    """

    def __init__(self) -> None:
        self._compiled: list[tuple[nn.Module, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Mark the blocks for compilation, which happens when one is first called."""
        torch.compiler.reset()  # graphs of an earlier run in this process count towards torch's limit for a function
        blocks = [block for network in module.computing for block in repeated_blocks(network)]
        for block in blocks:
            block.compile(dynamic=False)
            self._compiled.append((block, block._compiled_call_impl))
        self._use(False)
        log.info("torch.compile: %d blocks; steps that meet one for the first time take longer", len(blocks))

    def on_train_batch_start(self, *_: Any) -> None:
        """Put the compiled blocks in place."""
        self._use(True)

    def on_train_batch_end(self, *_: Any) -> None:
        """Put the original blocks back in place."""
        self._use(False)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """A step broke off, perhaps because a block cannot be compiled."""
        from torch._dynamo.exc import TorchDynamoException

        self._use(False)
        if isinstance(exception, TorchDynamoException):
            log.error(
                "a block could not be compiled: %s runs it as it is", argument("training.compile", False)
            )

    def _use(self, wanted: bool) -> None:
        for block, compiled in self._compiled:
            block._compiled_call_impl = compiled if wanted else None


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a transformer goes through in turn: the outermost lists and ``Sequential``s of one class."""
    members = list(network.children())
    of_one_class = len(members) > 1 and len({type(member) for member in members}) == 1
    if isinstance(network, nn.ModuleList) or (isinstance(network, nn.Sequential) and of_one_class):
        return members
    return [block for member in members for block in repeated_blocks(member)]
