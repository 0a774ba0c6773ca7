"""Which products this machine makes: the fast ones only where they are as accurate as 32 bits."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._inductor.runtime import cache_dir_utils

from unirae.core import hardware
from unirae.core.hardware import (
    FLOAT32_MATMUL,
    fastest_float32_matmul,
    fastest_num_threads,
    float32_matmul,
)


@pytest.fixture
def faked(monkeypatch, tmp_path):
    """A machine whose ``medium`` has a given speed and number of mantissa bits."""

    def machine(*, ratio: float, bits: int):
        def seconds(a, b, rounds=4):
            return 1.0 if torch.get_float32_matmul_precision() == "highest" else 1.0 / ratio

        def error(a, b, exact):
            return 2.0**-22 if torch.get_float32_matmul_precision() == "highest" else 2.0**-bits

        monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path / f"{ratio}-{bits}"))
        monkeypatch.setattr(hardware, "_matmul_seconds", seconds)
        monkeypatch.setattr(hardware, "_matmul_error", error)

    return machine


@pytest.mark.parametrize(
    ("ratio", "bits", "choice"),
    [
        (1.9, 22, "medium"),
        (1.9, 21, "medium"),
        (1.0, 22, "highest"),
        (5.0, 9, "highest"),
        (5.0, 11, "highest"),
    ],
)
def test_the_faster_is_taken_if_it_is_accurate(faked, ratio, bits, choice):
    faked(ratio=ratio, bits=bits)
    assert fastest_float32_matmul("cpu") == choice


def test_the_answer_stays_although_the_stopwatch_says_something_else(faked, monkeypatch):
    faked(ratio=1.9, bits=22)
    assert fastest_float32_matmul("cpu") == "medium"
    monkeypatch.setattr(hardware, "_matmul_seconds", lambda a, b, rounds=4: 1.0)
    assert fastest_float32_matmul("cpu") == "medium"
    monkeypatch.setattr(torch, "__version__", "another")
    assert fastest_float32_matmul("cpu") == "highest"


def test_without_a_cache_it_is_measured_each_time(faked, monkeypatch, tmp_path):
    faked(ratio=1.9, bits=22)
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path / "file"))
    assert fastest_float32_matmul("cpu") == "medium"


def test_here_it_is_accurate_and_the_setting_is_as_before():
    with float32_matmul():
        for before in FLOAT32_MATMUL:
            torch.set_float32_matmul_precision(before)
            choice = fastest_float32_matmul("cpu")
            assert torch.get_float32_matmul_precision() == before
            torch.set_float32_matmul_precision(choice)
            a, b = torch.randn(2, 300, 300, dtype=torch.float64)
            found = (a.float() @ b.float()).double()
            assert (found - a @ b).norm() / (a @ b).norm() < 2e-6


def test_a_gpu_is_not_given_tf32_unasked():
    assert fastest_float32_matmul("cuda") == "highest"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks to glibc's allocator")
def test_freed_memory_goes_back_until_it_is_to_be_kept():
    script = """
import sys
import torch
from unirae.core.hardware import keep_freed_memory, map_large_blocks

def pages():
    return int(open("/proc/self/statm").read().split()[1])

def kept():
    # many blocks of 1 MiB that are freed below one that is not
    before = pages()
    blocks = [torch.ones(2**18) for _ in range(64)]
    del blocks[:-1]
    return pages() - before

map_large_blocks()
torch.ones(2**23)  # frees a larger block, after which glibc would no longer map one of 1 MiB
mapped = kept()
keep_freed_memory()
held = kept()
map_large_blocks()  # as a second run of the same process does
sys.stdout.write(f"{mapped} {held} {kept()}")
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    mapped, kept, mapped_again = (int(pages) * os.sysconf("SC_PAGE_SIZE") for pages in said.split())
    assert mapped < 2**23
    assert kept > 2**25
    assert mapped_again < 2**23


@pytest.mark.parametrize("given", [None, "shared"])
def test_compiled_kernels_lie_apart_by_instructions(monkeypatch, tmp_path, given):
    folder = tmp_path / "shared"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
    if given is None:
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
        folder = Path(cache_dir_utils.default_cache_dir())
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    for _ in range(2):
        hardware.keep_kernels_apart()
        assert cache_dir_utils.cache_dir() == str(folder / "avx2")


# ---------------------------------------------------------------------- threads


@pytest.mark.parametrize(
    ("busy", "every", "chosen"),
    [(5.0, 2, 1), (1.3, 8, 7), (1.1, 2, 2), (0.6, 4, 4)],
    ids=["a core is taken", "of eight", "hardly faster", "all are free"],
)
def test_a_core_is_left_to_others_only_where_that_is_faster(monkeypatch, busy, every, chosen):
    before = torch.get_num_threads()
    tried = []

    def seconds() -> float:
        tried.append(torch.get_num_threads())
        return busy if tried[-1] == every else 1.0

    monkeypatch.setattr(hardware, "_small_steps_seconds", seconds)
    assert fastest_num_threads(every) == chosen
    assert set(tried) == {every, every - 1}
    assert torch.get_num_threads() == before


def test_one_thread_is_not_measured(monkeypatch):
    monkeypatch.setattr(hardware, "_small_steps_seconds", None)
    assert fastest_num_threads(1) == 1


def test_the_work_of_the_measurement_runs():
    assert 0 < hardware._small_steps_seconds() < 60
