"""Signals that ask a process to stop: SIGINT (ctrl-C), SIGTERM (timeout, SLURM, torchrun), SIGHUP (a closed terminal).

The first one raises ``KeyboardInterrupt`` in the main thread; within :func:`deferred` it is only remembered, and
whoever works there asks :func:`requested` where it can end well. The second one ends the process at once, also where
the main thread hangs in a library: a thread of its own hears the signals, through a pipe that the C handler writes to.

Python drops an exception that is raised where nobody can catch it: in ``__del__``, or in what it runs around a fork. A
request that is lost so is made again at once.

One request may arrive twice. ``timeout`` signals its child and then the group that the child is in; SLURM signals a
process, and so does the torchrun above it. So what follows within 0.3 s belongs to the first signal.
"""

import multiprocessing
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from unirae.core.log import get_logger

log = get_logger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STATUS = 130
"""Exit status of whoever was asked to stop, by whichever signal."""

unfinished: set[Path] = set()
"""Temporary files and folders that are being written now; they go when the process ends at once."""

_ONE_REQUEST_S = 0.3
_AGAIN_S = 0.05
_DROPPED = 255
"""What is written to the pipe where the exception of a request was dropped; no signal has this number."""


class _Listener:
    """Record of the requests that came while signals were heard."""

    def __init__(self) -> None:
        self.requested = False
        self.notice: str | None = None
        """What to say to a request while it is deferred; None while it is not."""

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Python's handler, in the main thread."""
        first, self.requested = not self.requested, True
        if first and self.notice is None:
            raise KeyboardInterrupt

    def watch(self, pipe: int) -> None:
        """Hear signals until a zero comes: say that a first one is heard, and end the process at the second."""
        first: float | None = None
        said = False
        while True:
            wait = None if first is None or said else _ONE_REQUEST_S
            if not select.select([pipe], [], [], wait)[0]:
                said = True
                if self.notice is not None:
                    log.warning(self.notice)
                continue
            numbers = os.read(pipe, 64)
            if 0 in numbers:
                return
            if _DROPPED in numbers:
                time.sleep(_AGAIN_S)  # until the main thread has left the place where exceptions are dropped
                first, self.requested = time.monotonic(), False
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                continue
            if not set(numbers) & set(SIGNALS):
                continue
            if first is None:
                first = time.monotonic()
            elif time.monotonic() - first > _ONE_REQUEST_S:
                _end_now()


_listener: _Listener | None = None


def requested() -> bool:
    """Say whether this process was asked to stop, since it began to listen."""
    return _listener is not None and _listener.requested


@contextmanager
def listening() -> Iterator[None]:
    """Hear the signals within the block; nothing new happens within another one, or outside the main thread.

    SIGHUP stays ignored where it is ignored already, as by ``nohup``.
    """
    global _listener
    if _listener is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _listener = listener = _Listener()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = threading.Thread(target=listener.watch, args=(reader,), name="signals", daemon=True)
    watcher.start()
    hook_before = sys.unraisablehook

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt) and listener.requested:
            os.write(writer, bytes([_DROPPED]))
        else:
            hook_before(dropped)

    sys.unraisablehook = hook
    fd_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    heard = [s for s in SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]
    before = {number: signal.signal(number, listener.on_signal) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(fd_before)
        sys.unraisablehook = hook_before
        os.write(writer, b"\0")
        watcher.join()
        os.close(reader)
        os.close(writer)
        _listener = None


@contextmanager
def deferred(notice: str) -> Iterator[None]:
    """Within the block a request is remembered and ``notice`` logged; it interrupts after the block if it still stands.

    Raises:
        KeyboardInterrupt: If a stop was requested and the block ended all the same.
    """
    if _listener is None:
        yield
        return
    listener = _listener
    before, listener.notice = listener.notice, notice
    try:
        yield
    finally:
        listener.notice = before
    if listener.requested and before is None:
        raise KeyboardInterrupt


@contextmanager
def held_back() -> Iterator[None]:
    """Signals wait until the block is over. A process that is started within it never hears them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent(number: int = 0) -> None:
    """Ignore signals in a child process such as a loader's worker: its parent decides what happens, and ends it.

    Whoever signals a group would otherwise end the workers first, and their parent then fails for want of data. A
    worker whose parent is gone sees that by itself within seconds.
    """
    signal.set_wakeup_fd(-1)  # the pipe is the parent's
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)


def before_first_step(checkpoint: str | Path | None) -> str:
    """A line for a run that was interrupted before it made a step."""
    kept = f"; {checkpoint} is as it was" if checkpoint else ""
    return f"interrupted before a step was made{kept}. To continue, repeat the command"


def _end_now() -> None:
    """Leave without saving, from whichever thread; temporary files and worker processes do not stay."""
    if os.environ.get("RANK", "0") == "0":
        os.write(2, b"interrupted twice: stopped at once\n")
    for child in multiprocessing.active_children():
        child.kill()
    for temporary in list(unfinished):
        with suppress(OSError):
            temporary.unlink() if temporary.is_file() else shutil.rmtree(temporary)
    os._exit(STATUS)
