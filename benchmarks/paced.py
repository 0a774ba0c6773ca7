"""Implementations in turn: each in a process of its own, one unit of work at a time, in rounds.

Timings on a shared machine drift, so a ratio of two long runs says little. Here every side does one unit (a training
step, a batch), then the next side does, and what is reported are medians over the rounds and the spread of the ratios
within rounds. A side that waits costs nothing but memory.

A GPU is nobody else's, and its memory would not hold what all sides need at once: there one side does its rounds after
the other, and a round is several units, so that the host may run ahead of the device as it does in a training run.

A side is a function ``work(lap, **options)`` that calls ``lap()`` before each unit and never returns.
"""

import contextlib
import importlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Lap = Callable[[], None]


@dataclass(frozen=True)
class Side:
    """One implementation of a piece of work.

    Attributes:
        name: shown in tables.
        work: ``module:function`` of this folder.
        options: of the function.
    """

    name: str
    work: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What a side did.

    Attributes:
        seconds: of a unit, in each round.
        peak_bytes: the most memory that its process had resident in all rounds, weights and libraries included; on
            CUDA the most that torch had handed out.
        flops: floating-point operations of one unit, as torch counts them, in products and attention.
    """

    seconds: list[float]
    peak_bytes: int | None
    flops: int | None

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def interleave(
    sides: list[Side], *, rounds: int, warmup: int, count_flops: bool = True
) -> dict[str, Measured]:
    """Let the sides take turns; the order changes from round to round.

    Raises:
        RuntimeError: a side ended; its message is on stderr.
    """
    runners = [_Runner(side) for side in sides]
    try:
        for runner in runners:
            for _ in range(warmup):
                runner.ask("run")
            runner.ask("forget")
        seconds: dict[str, list[float]] = {side.name: [] for side in sides}
        for number in range(rounds):
            turn = number % len(runners)
            for runner in runners[turn:] + runners[:turn]:
                seconds[runner.side.name].append(runner.ask("run"))
        peaks = {runner.side.name: runner.ask("peak") for runner in runners}
        flops = {runner.side.name: runner.ask("count") if count_flops else None for runner in runners}
        return {name: Measured(seconds[name], peaks[name], flops[name]) for name in seconds}
    finally:
        for runner in runners:
            runner.end()


def one_by_one(
    sides: list[Side],
    *,
    rounds: int,
    warmup: int,
    units: int,
    counted: Sequence[str] = (),
    warm_together: bool = False,
) -> dict[str, Measured]:
    """Let side after side do its rounds; all are started and built at once. One that ends is told of and left out.

    Scripts that run at the same time measure one after the other: what one builds, it builds while another measures.

    Args:
        units: of a round.
        counted: the sides whose operations are counted.
        warm_together: all begin with a unit at the same time, for what compiles long and needs little memory.
    """
    runners = [_Runner(side) for side in sides]
    found: dict[str, Measured] = {}
    try:
        if warm_together:
            for runner in runners:
                runner.send("run")
        with _the_only_one():
            for runner in runners:
                try:
                    if warm_together:
                        runner.receive()
                    found[runner.side.name] = runner.measure(
                        rounds=rounds, warmup=warmup, units=units, count_flops=runner.side.name in counted
                    )
                    print(f"{runner.side.name}: {found[runner.side.name].median:.4f} s", file=sys.stderr)
                except RuntimeError as error:
                    print(error, file=sys.stderr)
                finally:
                    runner.end()
    finally:
        for runner in runners:
            runner.end()
    return found


@contextlib.contextmanager
def _the_only_one() -> Iterator[None]:
    import fcntl  # Linux and macOS

    with open(Path(tempfile.gettempdir()) / "unirae-benchmark.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Runner:
    """The parent's end of a side."""

    def __init__(self, side: Side) -> None:
        self.side = side
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, side), daemon=False)
        self.process.start()
        theirs.close()

    def ask(self, what: str, units: int = 1) -> Any:
        self.send(what, units)
        return self.receive()

    def send(self, what: str, units: int = 1) -> None:
        with contextlib.suppress(OSError):  # which the answer will tell
            self.pipe.send((what, units))

    def receive(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"{self.side.name} ({self.side.work}) ended") from None

    def measure(self, *, rounds: int, warmup: int, units: int, count_flops: bool) -> Measured:
        for _ in range(warmup):
            self.ask("run")
        self.ask("forget")
        seconds = [self.ask("run", units) / units for _ in range(rounds)]
        return Measured(seconds, self.ask("peak"), self.ask("count") if count_flops else None)

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, side: Side) -> None:
    os.dup2(2, 1)  # what libraries print is not the benchmark's output
    module, function = side.work.split(":")
    getattr(importlib.import_module(module), function)(_Lap(pipe), **side.options)


class _Lap:
    """The side's end: answers what is asked between two units."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.asked: str | None = None
        self.left = 0
        self.start = 0.0
        self.counter: Any = None

    def __call__(self) -> None:
        """The last unit is done; wait for the word to begin another."""
        if self.left > 1:
            self.left -= 1
            return
        finished = time.perf_counter()
        if self.asked == "run":
            _synchronise()
            self.pipe.send(max(finished, time.perf_counter()) - self.start)
        elif self.asked == "count":
            self.counter.__exit__(None, None, None)
            self.pipe.send(self.counter.total)
        while True:
            self.asked, self.left = self.pipe.recv()
            if self.asked in ("run", "count"):
                break
            self.pipe.send(forget_peak() if self.asked == "forget" else _peak_bytes())
        if self.asked == "count":
            self.counter = flop_counter()
            self.counter.__enter__()
        self.start = time.perf_counter()


def flop_counter() -> Any:
    """Torch's own counts, without its bookkeeping of modules, which cannot follow gradients by images.

    While it counts, what is compiled runs as it is written: its products would not be seen.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

    def attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(q.shape, k.shape, v.shape)

    def attention_backward(gradient: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(gradient.shape, q.shape, k.shape, v.shape)

    aten = torch.ops.aten
    counts = {
        **flop_registry,
        aten._scaled_dot_product_flash_attention_for_cpu: attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
    }

    class Counter(TorchDispatchMode):
        total = 0

        def __enter__(self) -> Any:
            torch.compiler.set_stance("force_eager")
            return super().__enter__()

        def __exit__(self, *error: Any) -> Any:
            torch.compiler.set_stance("default")
            return super().__exit__(*error)

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            count = counts.get(func._overloadpacket)
            if count is not None:
                self.total += count(*args, **(kwargs or {}), out_val=out)
            return out

    return Counter()


def _synchronise() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def forget_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif os.path.exists("/proc/self/clear_refs"):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")


def _peak_bytes() -> int | None:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if not os.path.exists("/proc/self/status"):
        return None
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
