"""Where the time of our steps goes: the share of each kind of operation, from torch's profiler.

    python benchmarks/where_time_goes.py
    python benchmarks/where_time_goes.py --only where_time_goes_v2 --precision fp32

What is not products (of matrices, convolutions) could at best be taken away; products have the machine's limit. The
profiler itself costs a few per cent.
"""

import argparse
import multiprocessing
import os
import time
from collections import defaultdict
from multiprocessing.connection import Connection
from typing import Any

import cases
import ours
import paced
import sampling_v2
import training_stage1
import training_stage2
import training_v2

KINDS = {
    "products of matrices": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution_backward"),
    "attention's kernel and softmax": (
        "aten::_softmax",
        "aten::_softmax_backward_data",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "casts and copies": ("aten::copy_", "aten::cat"),
    "GELU and SiLU": ("aten::gelu", "aten::gelu_backward", "aten::silu", "aten::silu_backward"),
    "optimizer and average": ("aten::_fused_adamw_", "aten::lerp_", "aten::_foreach_lerp_"),
}
COMPILED = "compiled kernels"
"""What torch.compile made of the operations between the products of a block."""
REST = "all other operations"
GROUPS = {
    "where_time_goes": (*training_stage1.CASES, training_stage2.CASES[1]),
    "where_time_goes_v2": (training_v2.CASES[0], training_v2.CASES[1], sampling_v2.CASES[1]),
}
"""The cases of each file of results."""
_WARMUP = 6


def profile(case: cases.Case, precision: str) -> dict[str, Any]:
    """Seconds of one step of ours by kind of operation, and how fast the products were."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, case, precision))
    process.start()
    try:
        return mine.recv()
    finally:
        process.kill()
        process.join()


class _Lap:
    """Profiles the step after the warm-up, counts the operations of the one behind it."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.number = pipe, 0
        self.profiler: Any = None
        self.counter: Any = None
        self.seconds = 0.0

    def __call__(self) -> None:
        from torch.profiler import ProfilerActivity, profile

        self.number += 1
        if self.number == _WARMUP:
            self.profiler = profile(activities=[ProfilerActivity.CPU])
            self.profiler.__enter__()
            self.seconds = time.perf_counter()
        elif self.number == _WARMUP + 1:
            self.seconds = time.perf_counter() - self.seconds
            self.profiler.__exit__(None, None, None)
            self.counter = paced.flop_counter()
            self.counter.__enter__()
        elif self.number == _WARMUP + 2:
            self.counter.__exit__(None, None, None)
            self.pipe.send(by_kind(self.profiler.key_averages(), self.seconds, self.counter.total))


def _work(pipe: Connection, case: cases.Case, precision: str) -> None:
    os.dup2(2, 1)
    getattr(ours, case.work)(_Lap(pipe), **case.ours, precision=precision)


def by_kind(events: Any, seconds: float, flops: int) -> dict[str, Any]:
    """Seconds that each kind of operation took itself; what is left of the step is Python, Lightning and waiting."""
    kinds = {name: kind for kind, names in KINDS.items() for name in names}
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        if event.key.startswith("## Call CompiledFxGraph"):
            spent[COMPILED] += event.self_cpu_time_total / 1e6
        elif event.key.startswith("aten::") or event.key.startswith("_"):
            spent[kinds.get(event.key, REST)] += event.self_cpu_time_total / 1e6
    products = spent["products of matrices"] + spent["convolutions"]
    return {
        "seconds": round(seconds, 4),
        "shares": {kind: round(spent[kind] / seconds, 3) for kind in (*KINDS, COMPILED, REST)},
        "products_gflops_per_second": round(flops / products / 1e9),
    }


def main() -> None:
    """Write ``results/where_time_goes.json`` and the like."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="FILE")
    parser.add_argument("--precision", choices=["fp32"], help="leave out bf16, for processors without it")
    options = parser.parse_args()
    precisions = [options.precision] if options.precision else ["bf16", "fp32"]
    for name in options.only:
        cases.write(cases.file_name(name), measure(GROUPS[name], precisions))


def measure(group: tuple[cases.Case, ...], precisions: list[str]) -> dict[str, Any]:
    """The record of one file."""
    dtypes = {"bf16": "bfloat16", "fp32": "float32"}
    peak = paced.interleave(
        [paced.Side(dtypes[short], "ours:products", {"dtype": dtypes[short]}) for short in precisions],
        rounds=7,
        warmup=2,
        count_flops=False,
    )
    trainers = {"bf16": "bf16-mixed", "fp32": "32-true"}
    names = {short: trainers[short] for short in precisions}
    found = {
        case.name: {
            "what": case.title,
            **{short: profile(case, name if case.training else short) for short, name in names.items()},
        }
        for case in group
    }
    return {
        "steps": found,
        "products_of_2048_gflops_per_second": {
            kind: round(cases.product_flops() / min(one.seconds) / 1e9) for kind, one in peak.items()
        },
        "machine": cases.machine(),
        "versions": cases.versions(None),
    }


if __name__ == "__main__":
    main()
