"""A training step without numbers, which tells how much memory the real one takes; and the callback that says so.

The step itself runs, with its optimizers and averages, on tensors that have a shape and a device but no storage
(PyTorch's fake tensors). So nothing of the memory is modelled: a tensor counts from the operation that makes it until
its last reference goes, whatever the networks are. It costs a second or two and no memory.
"""

import copy
import weakref
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unirae.core.distributed import alone
from unirae.core.log import get_logger
from unirae.core.sharding import is_sharded, own_part
from unirae.nn.kernels.narrow_weights import NarrowWeights
from unirae.training.manual import ManualModule
from unirae.training.precision import ManualMixedPrecision

log = get_logger(__name__)

_LATE = 10**9
"""A step at which everything of a schedule has begun."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a step on one device.

    Attributes:
        peak: the most that is alive at one time.
        weights: of all networks, averages included, without those that lie in a file (bf16 on a CPU).
        gradients: of what is trained.
        optimizer: AdamW's averages.
    """

    peak: int
    weights: int
    gradients: int
    optimizer: int

    @property
    def activations(self) -> int:
        """Bytes that are alive at the peak beyond the sum of the others: mostly what autograd keeps."""
        return self.peak - self.weights - self.gradients - self.optimizer


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make while they live, and of those that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._alive: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and look at its results."""
        out = func(*args, **(kwargs or {}))
        self.show(tree_leaves(out))
        return out

    def show(self, values: Iterable[Any]) -> None:
        """Count the storage of each tensor, once."""
        for value in values:
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())

    def _count(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return

        def forget(_: Any) -> None:
            del self._alive[key]
            self.live -= size

        self._alive[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


def rehearse(module: ManualModule, plugin: Any, shapes: dict[str, Tensor], batch_size: int) -> StepMemory:
    """The memory of a step late in the run, when all losses take part.

    Args:
        module: is left as it is. What it has on the meta device is rehearsed as on a CPU.
        plugin: Lightning's precision plugin of the run.
        shapes: a sample of the data, whose shapes and types count.
        batch_size: of this device, all micro-batches together.
    """
    fake, counter = FakeTensorMode(allow_non_fake_inputs=True), LiveBytes()
    twin = _twin(module, fake)
    mapped = plugin.narrow.mapped if isinstance(plugin, ManualMixedPrecision) else []
    in_file = {id(weight) for weight in mapped}
    everything = [*twin.parameters(), *twin.buffers()]
    weights = [
        t
        for t, original in zip(everything, (*module.parameters(), *module.buffers()), strict=True)
        if id(original) not in in_file
    ]
    with ExitStack() as stack:
        stack.enter_context(alone())
        stack.enter_context(fake)
        batch = {
            name: torch.empty((batch_size, *sample.shape), dtype=sample.dtype, device=twin.device)
            for name, sample in shapes.items()
        }
        optimizers: Any = twin.configure_optimizers()
        narrow = NarrowWeights(*twin.frozen)  # which does nothing without autocast
        with plugin.forward_context(), narrow.in_use():
            counter.show([*weights, *narrow.copies, *batch.values()])
        stack.enter_context(counter)
        for _ in range(2):  # the first makes the optimizers' states
            counter.peak = counter.live
            with plugin.forward_context(), narrow.in_use():
                twin.training_step(batch, 0)
    states = [value for optimizer in optimizers for value in tree_leaves(list(optimizer.state.values()))]
    trained = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    return StepMemory(counter.peak, _bytes(weights), _bytes(trained), _bytes(states))


class _Late:
    """Stand-in for a trainer, with all that a step asks of one."""

    global_step = _LATE
    precision_plugin = None


def _twin(module: ManualModule, fake: FakeTensorMode) -> Any:
    """The module on fake tensors; it neither logs nor moves anything of the original."""
    trainer: Any = module._trainer
    memo: dict[int, Any] = {id(trainer): None}
    memo.update({id(optimizer): None for optimizer in (trainer.optimizers if trainer is not None else ())})
    for tensor in (*module.parameters(), *module.buffers()):
        if id(tensor) not in memo:
            memo[id(tensor)] = _fake(tensor, fake)
    twin: Any = copy.deepcopy(module, memo)
    if module.device.type == "meta":
        twin._device = torch.device("cpu")
    twin._trainer = _Late()
    twin.log_terms = lambda terms: None
    twin.step_optimizer = lambda: None
    return twin


def _fake(tensor: Tensor, fake: FakeTensorMode) -> Tensor:
    if tensor.is_meta:
        with fake:
            other = torch.empty_like(tensor, device="cpu")
    else:
        other = fake.from_tensor(tensor.detach())
    return nn.Parameter(other, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else other


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


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
        sample = module.example(data.train_dataset[batch[0]])
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
