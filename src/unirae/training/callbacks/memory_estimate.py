"""What a run will need, said before it starts: weights, gradients, optimizer states, activations."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from unirae.core.images import to_float
from unirae.core.log import get_logger
from unirae.core.sharding import is_sharded, own_part
from unirae.training.callbacks.events import evaluation_data
from unirae.training.manual import ManualModule

log = get_logger(__name__)


class MemoryEstimate(pl.Callback):
    """Logs an estimate of the memory per device: the tensors that are counted below, for one micro-batch.

    Activations are measured, not modelled: one image goes through each network and autograd is asked what it
    keeps. The networks' graphs do not live at once: the decoder's does throughout a step, beside the largest of
    the others. Of a sharded network a device has its part. Not counted: the libraries themselves, work space of
    kernels, the data loader.
    """

    def __init__(self, *, images_per_micro_batch: int) -> None:
        self.images_per_micro_batch = images_per_micro_batch

    def on_train_start(self, trainer: pl.Trainer, module: ManualModule) -> None:
        """Measure and log."""
        networks = [network for network in module.networks().values() if network is not None]
        parameters = {id(p): p for network in networks for p in network.parameters()}.values()
        parts = [own_part(p.detach()) for p in parameters]
        weights = sum(_bytes(part) for part in parts)
        trained = sum(_bytes(own_part(p.detach())) for p in parameters if p.requires_grad)
        image = to_float(evaluation_data(trainer)[0]["image"][None].to(module.device))
        with trainer.precision_plugin.forward_context():
            kept = {
                name: saved_bytes(run, parts, sharded=any(map(is_sharded, parameters)))
                for name, run in module.probes(image).items()
            }
        first, *others = kept.values()
        activations = self.images_per_micro_batch * (first + max(others, default=0))
        log.info(
            "memory per device, estimated: %s = weights %s + gradients %s + AdamW %s + activations %s (%d images)",
            *map(
                readable_bytes,
                (weights + 3 * trained + activations, weights, trained, 2 * trained, activations),
            ),
            self.images_per_micro_batch,
        )


def saved_bytes(run: Callable[[], Any], parameters: Any, *, sharded: bool = False) -> int:
    """Bytes of the distinct tensors that autograd keeps for the backward pass of ``run``, parameters aside.

    Args:
        sharded: FSDP runs it; then gradients are left behind.
    """
    owned = {p.untyped_storage().data_ptr() for p in parameters}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in owned:
            kept[pointer] = tensor  # held, so that no other tensor gets its address
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
        size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        if sharded:  # FSDP waits for the backward pass that belongs to a forward pass
            output.backward()
    return size


def readable_bytes(count: float) -> str:
    """``1.2 GB``, ``340 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
