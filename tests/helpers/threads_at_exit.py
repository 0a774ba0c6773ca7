"""Which threads processes have, and those of a command still have when their interpreter shuts down."""

import os
from pathlib import Path

# Python imports a module of this name in every process; what is registered first runs last.
_OBSERVER = """
import atexit, os, pathlib

def write():
    names = [task.read_text().strip() for task in pathlib.Path("/proc/self/task").glob("*/comm")]
    rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
    pathlib.Path(__file__).with_name(f"threads-{rank}-{os.getpid()}").write_text("\\n".join(names))

atexit.register(write)
"""


def running_threads() -> list[str]:
    """The names of this process's threads; empty where the system does not tell (only Linux does)."""
    return [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]


def observing(folder: Path, python_path: Path | str) -> str:
    """A PYTHONPATH with which each process of a command leaves its threads' names in ``folder``, a new one."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_OBSERVER)
    return f"{folder}{os.pathsep}{python_path}"


def gloo_threads(folder: Path, *, processes: int) -> set[str]:
    """The names of gloo's among them, in any process; empty where the system does not tell (only Linux does)."""
    files = list(folder.glob("threads-*"))
    assert len({file.name.split("-")[1] for file in files}) == processes
    return {name for file in files for name in file.read_text().splitlines() if "gloo" in name}
