"""How every command starts and ends: logging, one-line errors, exit status."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from unirae.core.errors import RunInterrupted, UserError


def run(command: Callable[[], Any]) -> int:
    """Run a command; a mistake of the user becomes one line on stderr and a status other than 0.

    Returns:
        0, or 2 for a :class:`~unirae.core.errors.UserError`, or 130 after an interrupt.
    """
    # Before torch loads OpenMP. By default a thread that waits for another spins for milliseconds; beside another
    # busy process that keeps the others from running. A short spin costs little alone (docs/log.md).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        command()
    except RunInterrupted as stop:
        sys.stderr.write(f"{stop}\n")
        return 130
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        return 1
    return 0


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at that moment.

    A progress bar of rich puts itself there while it is shown, to write lines above it; a stream that was kept from
    before would write across the bar.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self.stream = sys.stderr
        super().emit(record)


def configure_logging(log_file: Path | None = None, *, rank: int = 0) -> None:
    """Package log to stderr (first process only) and to a file; other libraries from WARNING up."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = []
    if rank == 0:
        handlers.append(_Stderr())
        if log_file is not None:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("unirae").setLevel(os.environ.get("UNIRAE_LOG_LEVEL", "INFO"))


def quiet_libraries() -> None:
    """Silence the tips and progress bars of libraries, after they are imported; their warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "httpx", "filelock", "fsspec"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A hub that is away: each of its retries would be two warnings, and then comes our own line.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    # Known and harmless: frozen networks are in eval mode on purpose, and Lightning lags behind torch's pytree.
    for message in (
        ".*module\\(s\\) in eval mode at the start of training",
        ".*isinstance\\(treespec, LeafSpec\\)",
    ):
        warnings.filterwarnings("ignore", message=message)
