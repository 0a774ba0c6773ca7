"""What this machine is good at, measured in a moment, and how to let it be."""

import ctypes
import platform
import time

import torch

from unirae.core.log import get_logger

log = get_logger(__name__)


def fastest_precision(device_type: str) -> str:
    """``bf16-mixed`` where matrices multiply faster in bf16 than in fp32, else ``32-true``.

    CUDA devices are asked; a CPU multiplies two small matrices in both (with bf16 instructions it is two to
    four times as fast, without them many times slower).
    """
    if device_type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if device_type != "cpu":
        return "32-true"
    seconds = {dtype: _matmul_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    ratio = seconds[torch.float32] / seconds[torch.bfloat16]
    choice = "bf16-mixed" if ratio > 1.2 else "32-true"
    log.info("precision: %s (bf16 products run %.1f times as fast as fp32 here)", choice, ratio)
    return choice


def _matmul_seconds(dtype: torch.dtype, size: int = 768, rounds: int = 4) -> float:
    a = torch.ones(size, size, dtype=dtype)
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - start)
    return best


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep freed memory for the next step instead of returning it to the system.

    By default every tensor above 128 KiB is mapped afresh, and the first touch of each of its pages is a fault: a
    small network's step on a CPU spends most of its time there. Elsewhere than on glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 64 * 2**20)
