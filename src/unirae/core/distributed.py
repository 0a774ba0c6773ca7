"""Processes: rank, size and sums, the same calls in one process and in many."""

import atexit
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from unirae.core.errors import UserError

T = TypeVar("T")


_is_alone = False


def is_distributed() -> bool:
    """Say whether a process group is running, outside of :func:`alone`."""
    return not _is_alone and dist.is_available() and dist.is_initialized()


@contextmanager
def alone() -> Iterator[None]:
    """Within the block this process is the only one and sends nothing: for a step that is only rehearsed."""
    global _is_alone
    before, _is_alone = _is_alone, True
    try:
        yield
    finally:
        _is_alone = before


def join_group(device: torch.device) -> None:
    """Form the group of the processes that torchrun started; at exit, if not before, it is left again."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    prepare_group()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def prepare_group() -> None:
    """Call before a group is formed, by whomever, so that :func:`leave_group` ends its threads, at exit at the latest.

    A thread of gloo's that still frees a tensor while the interpreter shuts down aborts the process ("terminate
    called without an active exception"), and torchrun then ends the others. Torch stops the threads once nothing
    refers to the group. But the functions of ``torch.distributed.nn`` have the group of the time of their import as a
    default argument, and libraries import it late (torchvision does); so it is imported while there is none.
    """
    import torch.distributed.nn.functional  # noqa: F401

    atexit.unregister(leave_group)  # not once more for each group
    atexit.register(leave_group)


def leave_group() -> None:
    """Leave the group, if there is one, and wait for its threads; not for the other processes."""
    if is_distributed():
        gc.collect()  # a sharded network refers to the group, and lies in cycles
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """This process's number; 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def is_main() -> bool:
    """Say whether this process is the one that writes files and pictures."""
    return rank() == 0


def barrier() -> None:
    """Wait for every process."""
    if is_distributed():
        dist.barrier()


def all_sum(tensor: Tensor) -> Tensor:
    """Sum over processes, out of place; keeps the dtype (float64 stays float64)."""
    if not is_distributed():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total, op=dist.ReduceOp.SUM)
    return total


_ROWS_AT_ONCE = 2**15


def rows_of_all(own: Tensor, *, device: torch.device | str) -> Tensor:
    """Put a table together of which each process has filled its own rows and left zeros elsewhere.

    The sum is exact, since to each row all others add zeros. A part at a time goes to ``device``, where the processes
    talk; the table stays where it is.
    """
    if not is_distributed():
        return own
    return torch.cat([all_sum(rows.to(device)).to(own.device) for rows in own.split(_ROWS_AT_ONCE)])


def all_mean_(tensors: list[Tensor]) -> None:
    """Average tensors over processes in place, as one flat message per dtype (DDP's gradient average)."""
    if not is_distributed() or not tensors:
        return
    # In order of appearance: a set's order differs between processes, and their messages would not match.
    for dtype in dict.fromkeys(t.dtype for t in tensors):
        group = [t for t in tensors if t.dtype == dtype]
        flat = torch.cat([t.reshape(-1) for t in group])
        dist.all_reduce(flat, op=dist.ReduceOp.SUM)
        flat.div_(dist.get_world_size())
        for t, part in zip(group, flat.split([t.numel() for t in group]), strict=True):
            t.copy_(part.view_as(t))


def shard(count: int) -> range:
    """This process's indices of ``count`` items: every ``world_size``-th, without padding or duplicates."""
    return range(rank(), count, world_size())


def own_batches(count: int, batch_size: int) -> list[range]:
    """This process's batches of ``count`` items: whole ones, number b to process b mod ``world_size``.

    So each batch holds the same items for any number of processes; only the last of all may be shorter.
    """
    starts = range(rank() * batch_size, count, world_size() * batch_size)
    return [range(start, min(start + batch_size, count)) for start in starts]


def gather(value: Any) -> list[Any]:
    """The plain value that each process has, in the order of ranks."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def on_main(function: Callable[[], T]) -> T:
    """Call ``function`` in the first process alone, and give every process its plain value.

    For whatever depends on files, which machines may not share: were each process to decide for itself, some might
    wait for others that never come.

    Raises:
        UserError: If ``function`` raised one in the first process; every process raises it.
    """
    found: T | None = None
    mistake: UserError | None = None
    if is_main():
        try:
            found = function()
        except UserError as error:
            mistake = error
    found, mistake = gather((found, mistake))[0]
    if mistake is not None:
        raise mistake
    return cast("T", found)
