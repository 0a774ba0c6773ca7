"""Compilation by torch.compile of the blocks of the networks that a step runs."""

from typing import Any

import lightning.pytorch as pl
import torch

from unirae.core.arguments import argument
from unirae.core.log import get_logger
from unirae.nn.kernels.block_compiler import BlockCompiler
from unirae.training.manual import ManualModule

log = get_logger(__name__)


class CompiledBlocks(pl.Callback):
    """Callback that lets torch.compile fuse the operations between the products of each block, within steps only.

    Stage 1 asks for the gradient of the decoder's last layer alone, and a graph of the whole decoder would walk through
    all of its backward pass to answer; so the blocks are compiled and not the networks. Samples and scores are made
    without: their batches have other sizes, each of which would be compiled anew.
    """

    def __init__(self) -> None:
        self._compiler = BlockCompiler()

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Mark the blocks for compilation, which happens when one is first called."""
        torch.compiler.reset()  # graphs of an earlier run in this process count towards torch's limit for a function
        self._compiler = BlockCompiler(*module.computing)
        log.info(
            "torch.compile: %d blocks; steps that meet one for the first time take longer",
            len(self._compiler),
        )

    def on_train_batch_start(self, *_: Any) -> None:
        """Put the compiled blocks in place."""
        self._compiler.use(True)

    def on_train_batch_end(self, *_: Any) -> None:
        """Put the original blocks back in place."""
        self._compiler.use(False)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """A step broke off, perhaps because a block cannot be compiled."""
        from torch._dynamo.exc import TorchDynamoException

        self._compiler.use(False)
        if isinstance(exception, TorchDynamoException):
            log.error(
                "a block could not be compiled: %s runs it as it is", argument("training.compile", False)
            )
