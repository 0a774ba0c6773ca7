"""Estimate of a run's memory before it starts: weights, gradients, optimizer states, activations."""

import lightning.pytorch as pl
import torch

from unirae.core.log import get_logger
from unirae.core.sharding import is_sharded, own_part
from unirae.training.manual import ManualModule
from unirae.training.rehearsal import rehearse

log = get_logger(__name__)


class MemoryEstimate(pl.Callback):
    """Logs an estimate of the memory per device: the tensors of a step, found by rehearsing it.

    Not counted: the libraries themselves, work space of kernels, what an allocator keeps in reserve, the data loader,
    what torch.compile changes; where FSDP shards a network, activations.
    """

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Rehearse a step and log its memory."""
        if any(map(is_sharded, module.parameters())):
            _log_parts(module)
            return
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        batch = next(iter(data.batches(rank=trainer.global_rank, start_step=0)))
        sample = {name: torch.as_tensor(value) for name, value in data.train_dataset[batch[0]].items()}
        try:
            step = rehearse(module, trainer.precision_plugin, sample, len(batch))
        except RuntimeError as error:  # all that tensors without numbers refuse; it can still be trained
            log.warning(
                "memory per device: no estimate, the step cannot be rehearsed (%s)", str(error).split("\n")[0]
            )
            return
        log.info(
            "memory per device, estimated: %s = weights %s + gradients %s + AdamW %s + activations %s (%d images)",
            *map(readable_bytes, (step.peak, step.weights, step.gradients, step.optimizer, step.activations)),
            data.images_per_micro_batch,
        )


def _log_parts(module: ManualModule) -> None:
    """Log the bytes that this process holds of each tensor between two steps."""
    parameters = {id(p): p for p in module.parameters()}.values()
    weights = sum(own_part(p.detach()).nbytes for p in parameters)
    trained = sum(own_part(p.detach()).nbytes for p in parameters if p.requires_grad)
    log.info(
        "memory per device, sharded: weights %s + gradients %s + AdamW %s, and activations, which are not estimated",
        *map(readable_bytes, (weights, trained, 2 * trained)),
    )


def readable_bytes(count: float) -> str:
    """Bytes as text: ``1.2 GB``, ``340 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
