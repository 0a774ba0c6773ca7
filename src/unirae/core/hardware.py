"""Abilities of this machine, measured in a moment, and settings of its memory."""

import ctypes
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from unirae.core.cache import cache_dir
from unirae.core.errors import UserError
from unirae.core.io import read_json, short_code, write_json
from unirae.core.log import get_logger

log = get_logger(__name__)


def fastest_precision(device_type: str) -> str:
    """The fastest precision: ``bf16-mixed`` where matrices multiply faster in bf16 than in fp32, else ``32-true``.

    CUDA devices are asked; a CPU multiplies two small matrices in both (with bf16 instructions it is two to
    four times as fast, without them many times slower).
    """
    if device_type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if device_type != "cpu":
        return "32-true"
    square = torch.ones(768, 768)
    seconds = {t: _matmul_seconds(square.to(t), square.to(t)) for t in (torch.float32, torch.bfloat16)}
    ratio = seconds[torch.float32] / seconds[torch.bfloat16]
    choice = "bf16-mixed" if ratio > 1.2 else "32-true"
    log.info("precision: %s (bf16 products run %.1f times as fast as fp32 here)", choice, ratio)
    return choice


def compiler_problem(device: torch.device) -> str | None:
    """Why torch.compile does not work on this device, tried on one small function; None where it does.

    It takes a few seconds, and less once torch has it in its own cache.
    """
    if device.type not in ("cpu", "cuda"):
        return f"not made for {device.type}"
    keep_kernels_apart()
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            torch.compile(_small, dynamic=False)(torch.ones(64, device=device))
    # a C++ compiler, Triton or Python's headers are missing: each has errors of its own
    except Exception as error:
        return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:200]}"
    return None


def keep_kernels_apart() -> None:
    """Give torch.compile's cache a folder for the instructions that this process uses; to be called before it compiles.

    The cache does not tell them apart: kernels that were made for AVX-512 gave NaN and other wrong numbers, without a
    word, in a process limited to AVX2 (torch 2.14).
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir as kernels

    folder, instructions = Path(kernels()), torch.backends.cpu.get_cpu_capability().lower()
    if folder.name != instructions:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / instructions)


def _small(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1.0


def fastest_num_threads(every: int) -> int:
    """``every`` thread, or one less where that is faster: where another program holds a core.

    All threads meet at every operation. One that shares its core comes late, and small operations then take several
    times as long as on the free cores alone.
    """
    if every == 1:
        return 1
    seconds = {every: 0.0, every - 1: 0.0}
    before = torch.get_num_threads()
    try:
        for number in list(seconds) * _TURNS:  # in turn: what disturbs both decides nothing
            torch.set_num_threads(number)
            seconds[number] += _small_steps_seconds()
    finally:
        torch.set_num_threads(before)
    ratio = seconds[every] / seconds[every - 1]
    if ratio < _WORTH_LEAVING_A_CORE:
        return every
    log.info(
        "%d of %d threads: another program holds a core, and small operations are %.1f times as fast so",
        every - 1,
        every,
        ratio,
    )
    return every - 1


_TURNS = 6
_WORTH_LEAVING_A_CORE = 1.15
"""Gain of the free cores alone from which on they are taken."""


def _small_steps_seconds() -> float:
    """Seconds of what a block of a small network does forward and backward, a few times."""
    x = torch.ones(1024, 256)
    into, back = (torch.full(shape, 0.01, requires_grad=True) for shape in ((256, 512), (512, 256)))
    started = time.perf_counter()
    for _ in range(4):
        hidden = torch.layer_norm(x, (256,)) @ into
        (x + torch.nn.functional.gelu(hidden) @ back).square().mean().backward()
    return time.perf_counter() - started


FLOAT32_MATMUL = ("highest", "high", "medium")
"""Settings of ``torch.set_float32_matmul_precision``."""

_TOLERATED = 4.0
"""Largest ratio of errors that 32 bits make by adding up in another order; 16 bits err 1000 times as much."""


def fastest_float32_matmul(device_type: str) -> str:
    """The setting of ``torch.set_float32_matmul_precision`` that is fast and as accurate as 32 bits are.

    On a CPU ``medium`` lets torch multiply by oneDNN, which on some processors is twice as fast as the default and as
    accurate, while on others it rounds to 16 bits. So both are tried on one product. Elsewhere it is ``highest``: that
    a GPU may use TF32 is for the user to say.

    The answer is kept in the cache for this processor and this torch: last digits follow from it, and they must not
    change from one command to the next because a stopwatch was disturbed.
    """
    if device_type != "cpu":
        return "highest"
    machine = {"processor": _processor(), "torch": str(torch.__version__)}
    file = cache_dir() / "hardware" / f"float32_matmul-{short_code(machine)}.json"
    if not file.is_file():
        found = _compare_float32_matmul()
        with suppress(UserError):  # without a cache it is measured in each process
            write_json(file, {**machine, **found})
        log.info("fp32 products: %(choice)s (medium runs %(ratio).2f times as fast as highest here)", found)
        return found["choice"]
    choice = read_json(file)["choice"]
    return choice if choice in FLOAT32_MATMUL else "highest"


def _compare_float32_matmul() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, 768, generator=generator) for size in (256, 1536))
    exact = a.double() @ b.double().T
    errors, seconds = {}, {"highest": float("inf"), "medium": float("inf")}
    with float32_matmul():
        for setting in ("highest", "medium") * 8:  # in turn: other programs disturb both alike
            torch.set_float32_matmul_precision(setting)
            seconds[setting] = min(seconds[setting], _matmul_seconds(a, b, rounds=2))
            errors[setting] = errors.get(setting) or _matmul_error(a, b, exact)
    ratio = seconds["highest"] / seconds["medium"]
    accurate = errors["medium"] <= _TOLERATED * errors["highest"]
    return {"choice": "medium" if accurate and ratio > 1.05 else "highest", "ratio": ratio, "errors": errors}


def _processor() -> str:
    """The processor's name, where the system tells one."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        # the flags, too: virtual machines hide which processor it is, and what it can do
        wanted = ("model name", "flags", "Features")
        return " ".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
    return platform.processor() or platform.machine()


@contextmanager
def float32_matmul() -> Iterator[None]:
    """Restore the setting of ``torch.set_float32_matmul_precision`` afterwards."""
    before = torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _matmul_error(a: torch.Tensor, b: torch.Tensor, exact: torch.Tensor) -> float:
    return float((a @ b.T - exact).norm() / exact.norm())


def _matmul_seconds(a: torch.Tensor, b: torch.Tensor, rounds: int = 4) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        torch.mm(a, b.T)
        best = min(best, time.perf_counter() - start)
    return best


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
"""glibc's ``malloc.h``."""


def map_large_blocks() -> None:
    """Tell glibc's allocator to map each tensor above 128 KiB by itself, until :func:`keep_freed_memory`.

    It starts so, but raises that size with every larger one that is freed. What is made once and lives as long as a
    run (optimizer states, 16-bit copies) then lies between what comes and goes, and leaves holes that nothing else
    fits.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, 128 * 2**10)
        # its defaults, for an earlier run of this process may have changed them
        libc.mallopt(_M_MMAP_MAX, 65536)
        libc.mallopt(_M_TRIM_THRESHOLD, 128 * 2**10)
        libc.mallopt(_M_TOP_PAD, 0)


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep freed memory for the next step instead of returning it to the system.

    By default every tensor above 128 KiB is mapped afresh, and the first touch of each of its pages is a fault: a
    small network's step on a CPU spends most of its time there. Elsewhere than on glibc nothing happens.
    """
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)  # what was needed until now says little of what will be
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 64 * 2**20)


def _glibc() -> Any:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
