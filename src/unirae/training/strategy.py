"""Strategies to spread a step over devices: whole networks whose gradients are averaged, or a sharded denoiser."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.optim import Optimizer

from unirae.core.distributed import prepare_group
from unirae.core.sharding import gathered_on_main, is_sharded, mesh_of_all, release, sharded_like
from unirae.training.stage2 import Stage2


class GradientAveraging(DDPStrategy):
    """Processes, devices and launchers as Lightning's DDP; the gradients are averaged by our updaters.

    Torch's DDP wrapper expects one backward pass per forward that reaches every parameter. A GAN step has two
    networks, gradients with respect to images, and forward passes without gradients; instead of telling DDP
    about each exception, every update averages exactly the gradients that it is about to apply, during its last
    backward pass (:class:`~unirae.training.averaging.OverlappingAverage`), once whatever the number of micro-batches.
    """

    def setup_distributed(self) -> None:
        """Join the group, which is then left at exit; Lightning by itself leaves only NCCL's."""
        prepare_group()
        super().setup_distributed()

    def configure_ddp(self) -> None:
        """Leave the module unwrapped, and start every process from the first one's weights."""
        assert self.model is not None
        self.take_from_first([*self.model.parameters(), *self.model.buffers()])

    @torch.no_grad()
    def take_from_first(self, tensors: Iterable[Tensor]) -> None:
        """The first process's values, in place; the messages go over the device."""
        for tensor in tensors:
            if not is_sharded(tensor):
                values = tensor.data.to(self.root_device)
                dist.broadcast(values, src=0)
                tensor.copy_(values)  # not behind its back: 16-bit copies go by its version


class Sharding(GradientAveraging):
    """FSDP (Zhao et al. 2023, arXiv 2304.11277; torch's ``fully_shard``) for the denoiser of stage 2 and its averages.

    Each process keeps its part of their weights, gradients and optimizer states. FSDP averages the gradients itself.
    A checkpoint is that of one process: whole tensors, gathered by the first. Loading needs nothing of its own for
    weights, since it comes before the sharding.
    """

    def model_to_device(self) -> None:
        """Shard, which moves block after block; then move the rest."""
        module = self.lightning_module
        assert isinstance(module, Stage2)
        for network in module.state_parts().values():
            self.take_from_first([*network.parameters(), *network.buffers()])
        self.mesh = mesh_of_all(self.root_device)
        module.shard(self.mesh)
        super().model_to_device()

    def teardown(self) -> None:
        """Let go of the processes' group, so that it can be left."""
        super().teardown()
        assert isinstance(self.lightning_module, Stage2)
        release(self.mesh, self.lightning_module.denoiser)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole tensors, on the first process."""
        return gathered_on_main(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Whole tensors, on the first process."""
        return gathered_on_main(super().optimizer_state(optimizer))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the part of each process from a checkpoint's whole tensors."""
        states = zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
        parts = [_own_state(optimizer, state) for optimizer, state in states]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": parts})


def _own_state(optimizer: Optimizer, content: dict[str, Any]) -> dict[str, Any]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def cut(value: Any, index: int) -> Any:
        like_its_parameter = isinstance(value, Tensor) and value.shape == parameters[index].shape
        return sharded_like(value, parameters[index]) if like_its_parameter else value

    state = {
        index: {name: cut(value, index) for name, value in of_one.items()}
        for index, of_one in content["state"].items()
    }
    return {**content, "state": state}
