"""Run a function in several processes that form a gloo group, as torchrun would start them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from threads_at_exit import running_threads
from unirae.core.distributed import leave_group, prepare_group


def run_in_processes(function: Callable[..., Any], *args: Any, count: int, folder: Path) -> list[Any]:
    """``function(*args)`` in each of ``count`` processes; its results in the order of ranks.

    ``function`` is a module-level one; results are tensors and plain values.
    """
    mp.spawn(_in_process, args=(function, args, count, folder), nprocs=count)
    return [torch.load(folder / f"result-{rank}.pt") for rank in range(count)]


def _in_process(
    rank: int, function: Callable[..., Any], args: tuple[Any, ...], count: int, folder: Path
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "TORCHELASTIC_RUN_ID": "test",  # Lightning then knows that the processes are there already
    }
    prepare_group()
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=count)
    torch.save(function(*args), folder / f"result-{rank}.pt")
    leave_group()
    assert not [name for name in running_threads() if "gloo" in name]  # they may abort the process at its end
