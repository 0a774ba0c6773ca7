"""A lock between processes that a kill cannot leave behind: the operating system frees it with its holder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unirae.core.errors import UserError

_held: set[int] = set()


def _let_go_in_child() -> None:
    """A forked process, such as a loader's worker, has the files too: it would hold what its parent, killed, cannot."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class BusyError(UserError):
    """Another process holds a lock."""


@contextmanager
def locked(path: Path, *, busy: str) -> Iterator[None]:
    """Hold the lock that the file ``path`` stands for; the file is there as long as the block runs.

    Where the file system has no locks, nothing is locked.

    Args:
        path: in a folder that is made if need be.
        busy: what to say if another process holds it; ``HOLDER`` in it becomes that process.

    Raises:
        BusyError: If another process holds the lock.
        UserError: If the file of the lock cannot be made.
    """
    file = _taken(path, busy)
    _held.add(file)
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == pid:
            with suppress(OSError):
                path.unlink()
            _held.discard(file)
            os.close(file)


def _taken(path: Path, busy: str) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # somebody removed the empty folder in between
            continue
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}. Choose another folder."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace") or "another process"
            os.close(file)
            raise BusyError(busy.replace("HOLDER", holder)) from None
        except OSError:
            return file
        with suppress(FileNotFoundError):  # its former holder may have removed the file that was opened here
            if os.path.samestat(os.fstat(file), path.stat()):
                with suppress(OSError):  # a full disk: the lock holds all the same
                    os.ftruncate(file, 0)
                    os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return file
        os.close(file)
