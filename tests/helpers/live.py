"""Commands in processes of their own, to be signalled: forked from a server that has the slow imports behind it."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["live", "tiny_training", "hydra", "unirae.app.train", "unirae.app.run.assembly"]
)


def _in_child(command: str, words: list[str], folder: Path, before: Callable[[], Any] | None) -> None:
    import importlib

    multiprocessing.set_start_method(
        "fork", force=True
    )  # of loader workers, as in a command that a user starts
    os.setsid()  # a group of its own, as a shell or timeout makes
    with open(folder / f"stderr-{os.getpid()}", "wb", buffering=0) as file:
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 1)
    os.chdir(folder)
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a fork server ignores
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores
    sys.argv = [command, *words]
    if before is not None:
        before()
    sys.exit(importlib.import_module(f"unirae.app.{command}").main())


class Live:
    """A command that runs in ``folder``; ``before`` is called in its process before it begins."""

    def __init__(
        self, command: str, *words: Any, folder: Path, before: Callable[[], Any] | None = None
    ) -> None:
        self.process = _CONTEXT.Process(
            target=_in_child, args=(command, [str(word) for word in words], folder, before)
        )
        self.process.start()
        self.pid: int = self.process.pid or 0
        self._output = folder / f"stderr-{self.pid}"

    @property
    def output(self) -> str:
        """What it wrote to both streams so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def wait_for(self, what: str | Callable[[], bool], seconds: float = 120) -> None:
        """Wait for words in its output, or until something is true."""
        deadline = time.monotonic() + seconds
        while not (what in self.output if isinstance(what, str) else what()):
            if not self.process.is_alive() or time.monotonic() > deadline:
                pytest.fail(f"waited in vain for {what}:\n{self.output[-3000:]}")
            time.sleep(0.01)

    def signal(self, number: int, *, group: bool = False, times: int = 1) -> None:
        """Send it, to the process or to its whole group."""
        for _ in range(times):
            (os.killpg if group else os.kill)(self.pid, number)

    def end(self, seconds: float = 60) -> int:
        """Wait for the end: the exit status."""
        self.process.join(seconds)
        if self.process.is_alive():
            os.killpg(self.pid, signal.SIGKILL)
            pytest.fail(f"still there after {seconds} s:\n{self.output[-3000:]}")
        assert self.process.exitcode is not None
        return self.process.exitcode

    def last_line(self) -> str:
        """The last line of its output."""
        return self.output.strip().splitlines()[-1]

    def is_alone(self, seconds: float = 10) -> bool:
        """Whether no other process of its group is left, now or soon."""
        deadline = time.monotonic() + seconds
        while self.others_in_group() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.others_in_group()

    def others_in_group(self) -> list[int]:
        """Processes of its group that still live, apart from itself."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == self.pid and fields[0] != "Z" and int(stat.parent.name) != self.pid:
                found.append(int(stat.parent.name))
        return found
