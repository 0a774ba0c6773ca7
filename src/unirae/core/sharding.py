"""Tensors of which each process holds a part (DTensor): their own parts, their wholes, and back.

A plain tensor is its own part and whole, so that the callers need not ask which it is. What needs the other processes
must be called by all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from unirae.core.distributed import is_main, world_size


def mesh_of_all(device: torch.device) -> DeviceMesh:
    """All processes in a row."""
    return init_device_mesh(device.type, (world_size(),))


def release(mesh: DeviceMesh, network: nn.Module) -> None:
    """Let go of the processes' group; the network can no longer run.

    Torch's caches of layouts keep every mesh, a network may outlive its training, and both refer to the group: gloo's
    threads would live until the process ends, and may abort it then (:func:`~unirae.core.distributed.prepare_group`).
    """
    getattr(mesh, "_pg_registry", {}).clear()  # torch before 2.10 has none
    for module in network.modules():
        if isinstance(module, FSDPModule):
            for group in _parameter_groups(module._get_fsdp_state()):
                vars(group.mesh_info).pop("shard_process_group", None)


def _parameter_groups(state: Any) -> list[Any]:
    """The parameter groups that FSDP holds of a module: one at most before torch 2.14, or several."""
    if hasattr(state, "_fsdp_param_groups"):
        return state._fsdp_param_groups
    return [] if state._fsdp_param_group is None else [state._fsdp_param_group]


def is_sharded(tensor: Tensor) -> bool:
    """Say whether each process holds a part of the tensor only."""
    return isinstance(tensor, DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds; a view."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor, gathered from all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, which every process has, cut as ``model`` is; no messages."""
    if not isinstance(model, DTensor):
        return tensor
    placed = tensor.to(model.device)
    return distribute_tensor(placed, model.device_mesh, model.placements, src_data_rank=None)


def shard_parameters(module: nn.Module, mesh: DeviceMesh) -> None:
    """Keep of each parameter this process's rows, as FSDP cuts them. Without FSDP's hooks: nothing can run so."""
    for owner, name, parameter in list(_parameters(module)):
        placed = parameter.detach().to(mesh.device_type)
        part = distribute_tensor(placed, mesh, [Shard(0)], src_data_rank=None)
        owner.register_parameter(name, nn.Parameter(part, requires_grad=parameter.requires_grad))


@contextmanager
def gathered_parameters(module: nn.Module) -> Iterator[None]:
    """Within the block a module after :func:`shard_parameters` is whole on every process, and can run."""
    parts = [(owner, name, p) for owner, name, p in _parameters(module) if is_sharded(p)]
    try:
        for owner, name, parameter in parts:
            owner.register_parameter(name, nn.Parameter(whole(parameter.detach()), requires_grad=False))
        yield
    finally:
        for owner, name, parameter in parts:
            owner.register_parameter(name, parameter)


def gathered_on_main(content: Any) -> Any:
    """A tree of dictionaries and lists with whole tensors in it, on the CPU; empty dictionaries elsewhere.

    One tensor at a time is whole on the devices.
    """
    if isinstance(content, dict):
        found = {key: gathered_on_main(value) for key, value in content.items()}
        return found if is_main() else {}
    if isinstance(content, list):
        return [gathered_on_main(value) for value in content]
    if isinstance(content, DTensor):
        return content.full_tensor().cpu()
    return content


def _parameters(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            yield owner, name, parameter
