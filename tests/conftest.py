"""For every test: offline, one thread each (tiny tensors only wait for one another on many), and a cache of its own."""

import atexit
import gc
import logging
import os
import shutil
import tempfile

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
    "OMP_WAIT_POLICY", "passive"
)  # where a command takes all cores, which others use as well
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["UNIRAE_CACHE_DIR"] = tempfile.mkdtemp(prefix="unirae-tests-")
os.environ.pop("UNIRAE_WEIGHTS_DIR", None)
atexit.register(shutil.rmtree, os.environ["UNIRAE_CACHE_DIR"], ignore_errors=True)

import torch  # noqa: E402 - which reads the number of threads

from unirae.app.shell.argument_names import NAMES  # noqa: E402
from unirae.app.shell.cli import StderrHandler  # noqa: E402
from unirae.core.arguments import called  # noqa: E402


def pytest_collection_finish():
    """What the imports have made stays until the end: the garbage collector need not look through it in each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def float32_matmul():
    """A run sets how 32-bit products are made, for the whole process: each test starts from torch's default."""
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def names_of_commands():
    """Arguments are called as in a command, of which a test calls a part; the whole does so in ``app/shell/cli.py``."""
    with called(NAMES):
        yield


LOGGERS = (
    None,
    "unirae",
    "lightning.pytorch",
    "lightning.fabric",
    "httpx",
    "filelock",
    "fsspec",
    "huggingface_hub",
)
"""Those whose level a command sets for its whole process (``app/shell/cli.py``); None is the root."""


@pytest.fixture(autouse=True, scope="session")
def levels():
    """Before any test's or module's fixture runs a command."""
    return {name: logging.getLogger(name).level for name in LOGGERS}


@pytest.fixture(autouse=True)
def log_of_commands(levels):
    """A command's log goes to standard error, for its whole process: nothing of it is left to the next test."""
    yield
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, StderrHandler)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
