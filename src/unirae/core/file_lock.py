"""A lock between processes that a kill cannot leave behind: the operating system frees it with its holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unirae.core.errors import UserError


@contextmanager
def locked(path: Path, *, busy: str) -> Iterator[None]:
    """Hold the lock that the file ``path`` stands for; the file is there as long as the block runs.

    Where the file system has no locks, nothing is locked.

    Raises:
        UserError: If another process holds it (the message is ``busy``), or if the file cannot be made.
    """
    file = _taken(path, busy)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(file)


def _taken(path: Path, busy: str) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}. Choose another folder."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise UserError(busy) from None
        except OSError:
            return file
        with suppress(FileNotFoundError):  # its former holder may have removed the file that was opened here
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)
