"""Where the memory of both sides goes: libraries, tensors that stay, and what a unit of work needs at its peak.

    python benchmarks/where_memory_goes.py --against RAE --against_v2 RAEV2

Libraries are their code and data and all of Python's objects: what a process has resident beside its tensors. Freed
memory is handed back to the system before each unit, so that it counts as nobody's.
"""

import argparse
import ctypes
import gc
import importlib
import multiprocessing
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import autoencoder
import cases
import paced
import sampling_v2
import training_v2

CASES = (*autoencoder.CASES, training_v2.CASES[0], training_v2.CASES[1], sampling_v2.CASES[1])
_MEASURED = 4
"""The unit that is measured: what is made once is there by then."""


class _Lap:
    """Measures one unit, and sends what it found."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.number = pipe, 0
        self.tensors = self.before = 0

    def __call__(self) -> None:
        self.number += 1
        if self.number == _MEASURED:
            gc.collect()
            if platform.libc_ver()[0] == "glibc":
                ctypes.CDLL(None).malloc_trim(0)
            self.tensors, self.before = tensor_bytes(), resident_bytes("VmRSS")
            paced.forget_peak()
        elif self.number == _MEASURED + 1:
            peak = resident_bytes("VmHWM")
            self.pipe.send(
                {
                    "libraries": self.before - self.tensors,
                    "tensors": self.tensors,
                    "unit": peak - self.before,
                    "peak": peak,
                }
            )


def tensor_bytes() -> int:
    """Bytes of all tensors in memory, gradients included; those that lie in a file do not count."""
    import torch

    found = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
    found += [one.grad for one in found if one.is_leaf and one.grad is not None]
    kinds = [one for one in found if one.device.type == "cpu" and one.layout == torch.strided]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage() for one in kinds}
    # what looks at the bytes of a file owns no memory that could grow
    return sum(storage.nbytes() for storage in storages.values() if storage.resizable())


def resident_bytes(field: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


LIBRARIES = ("torch", "torch._dynamo", "transformers.modeling_utils", "lightning.pytorch")
"""In an order in which none brings a later one."""


def libraries() -> dict[str, dict[str, float]]:
    """Megabytes and seconds that each of the libraries adds to those before it, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_imported).result()


def _imported() -> dict[str, dict[str, float]]:
    found = {}
    for name in LIBRARIES:
        before, started = resident_bytes("VmRSS"), time.perf_counter()
        importlib.import_module(name)
        taken = time.perf_counter() - started
        found[name] = {"mb": round((resident_bytes("VmRSS") - before) / 1e6), "seconds": round(taken, 1)}
    return found


def _work(pipe: Connection, side: paced.Side) -> None:
    os.dup2(2, 1)
    module, function = side.work.split(":")
    getattr(importlib.import_module(module), function)(_Lap(pipe), **side.options)


def profile(side: paced.Side) -> dict[str, float]:
    """Megabytes of one side by what holds them, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, side))
    process.start()
    theirs.close()
    try:
        return {name: round(number / 1e6) for name, number in mine.recv().items()}
    finally:
        process.kill()
        process.join()


def main() -> None:
    """Write ``results/where_memory_goes.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    checkouts = {}
    for reference, name in ((cases.RAE, "against"), (cases.RAEV2, "against_v2"), (cases.GRAM, "gram")):
        parser.add_argument(reference.option, dest=name, type=Path, metavar="DIR", help=reference.repository)
        checkouts[reference.option] = name
    options = parser.parse_args()
    for reference in (cases.RAE, cases.RAEV2, cases.GRAM):
        reference.check(parser, getattr(options, checkouts[reference.option]))
    brought = libraries()
    found = {}
    for case in CASES:
        folder = getattr(options, checkouts[case.reference.option])
        if options.gram is not None and case.reference is cases.RAEV2:
            case.theirs["gram"] = str(options.gram.resolve())
        every = [side for side in cases.sides(case, folder) if side.name not in cases.PRODUCTS.values()]
        found[case.name] = {"what": case.title, **{side.name: profile(side) for side in every}}
        print(case.title, *found[case.name].items(), sep="\n  ", flush=True)
    cases.write(
        "where_memory_goes",
        {"cases": found, "libraries": brought, "machine": cases.machine(), "versions": cases.versions(None)},
    )


if __name__ == "__main__":
    main()
