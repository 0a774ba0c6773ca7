"""The start and the end of every command: logging, one-line errors, exit status."""

import errno
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from unirae.app.shell.argument_names import NAMES
from unirae.core import stopping
from unirae.core.arguments import called
from unirae.core.errors import RunInterrupted, UserError
from unirae.core.log import ON_BAR, get_logger
from unirae.core.names import on_one_line

log = get_logger(__name__)


def run(command: Callable[[], Any], *, kept: str = "", names: Mapping[str, str] = NAMES) -> int:
    """Run a command; a mistake of the user becomes one line on stderr and a status other than 0.

    Args:
        command: the work of the command.
        kept: a line for after an interrupt: what stays, and how to go on.
        names: the command's names of the arguments of layers below, see :mod:`unirae.core.arguments`.

    Returns:
        0, or 2 for a :class:`~unirae.core.errors.UserError`, a full disk and a path that the operating system does not
        take, or 130 after a request to stop
        (:mod:`unirae.core.stopping`).
    """
    # Before torch loads OpenMP. By default a thread that waits for another spins for milliseconds; beside another
    # busy process that keeps the others from running. A short spin costs little alone (docs/log.md).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    interrupted = f"interrupted; {kept}" if kept else "interrupted"
    with called(names), stopping.listening(), _threads_leave_a_full_disk_to_us():
        try:
            command()
        except RunInterrupted as stop:
            return _interrupted(str(stop))
        except UserError as error:
            return _mistake(str(error))
        except KeyboardInterrupt:
            return _interrupted(interrupted)
        except BrokenPipeError:
            return 1
        except Exception as error:
            if stopping.requested():  # a process that this one waits for may have ended by the same signal
                log.debug("while stopping", exc_info=True)
                return _interrupted(interrupted)
            if isinstance(error, OSError) and error.errno in _FULL:
                return _mistake(_full_disk(error))
            if problem := path_problem(error):
                return _mistake(problem)
            raise
    return 0


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers that say that a file cannot grow."""


_OF_PATHS = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP)
"""Error numbers that say that a path cannot be followed; ``Path.exists`` and its like raise these."""


def path_problem(error: Exception) -> str:
    """The message where the operating system does not take a path; empty for another error."""
    if not isinstance(error, OSError) or error.errno not in _OF_PATHS:
        return ""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return ""
    path = os.fsdecode(error.filename)
    return f"{on_one_line(path) if error.errno == errno.ENAMETOOLONG else path}: {error.strerror}"


@contextmanager
def _threads_leave_a_full_disk_to_us() -> Iterator[None]:
    """Keep TensorBoard's thread from printing a traceback of a full disk, which its writer raises here, too."""
    before = threading.excepthook

    def hook(met: threading.ExceptHookArgs) -> None:
        if not (isinstance(met.exc_value, OSError) and met.exc_value.errno in _FULL):
            before(met)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def _full_disk(error: OSError) -> str:
    """The message for a full disk, or that of an explained mistake which led to it (a checkpoint before the logs)."""
    before: BaseException | None = error
    while before is not None and not isinstance(before, UserError):
        before = before.__context__
    return str(before or f"cannot write {error.filename or 'a file'}: {error.strerror}. Free some space")


def _mistake(message: str) -> int:
    sys.stderr.write(f"error: {' '.join(message.splitlines())}\n")  # libraries' reasons may have several
    return 2


def _interrupted(message: str) -> int:
    if launch_rank() == 0:  # every process of a run is stopped, and one of them tells
        sys.stderr.write(f"{message}\n")
    return stopping.STATUS


def launch_rank() -> int:
    """This process's number before any process group exists (torchrun, Lightning or srun set it)."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return int(next((os.environ[name] for name in names if name in os.environ), "0"))


def launch_size() -> int:
    """The number of processes that a launcher has started as this run (torchrun, srun); 1 without a launcher."""
    name = "WORLD_SIZE" if "WORLD_SIZE" in os.environ or "SLURM_PROCID" not in os.environ else "SLURM_NTASKS"
    return int(os.environ.get(name, "1"))


class StderrHandler(logging.StreamHandler[TextIO]):
    """A handler that writes to whatever ``sys.stderr`` is at that moment.

    A progress bar of rich puts itself there while it is shown, to write lines above it; a stream that was kept from
    before would write across the bar.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless a progress bar says the same."""
        if getattr(record, ON_BAR, False):
            return
        self.stream = sys.stderr
        super().emit(record)


def configure_logging(log_file: Path | None = None, *, rank: int = 0) -> None:
    """Send the package's log to stderr (first process only) and to a file; other libraries from WARNING up."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        with suppress(OSError):
            handler.close()
    handlers: list[logging.Handler] = []
    if rank == 0:
        handlers.append(StderrHandler())
        if log_file is not None:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_LogFile(log_file, encoding="utf-8", errors="backslashreplace"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("unirae").setLevel(os.environ.get("UNIRAE_LOG_LEVEL", "INFO"))


class _LogFile(logging.FileHandler):
    """A log file. If it cannot be written (a full disk), one line on stderr says so, and the run goes on."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Report once that the log file cannot be written."""
        if not self._told:
            self._told = True
            sys.stderr.write(
                f"{self.baseFilename} cannot be written ({sys.exc_info()[1]}); the log goes on here\n"
            )


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
