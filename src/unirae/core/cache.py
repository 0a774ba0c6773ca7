"""The place of files that can be computed again."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unirae.core.arguments import argument


def cache_dir() -> Path:
    """Folder of the cache: ``UNIRAE_CACHE_DIR``, or ``unirae`` in the user's cache folder; need not exist yet."""
    given = os.environ.get("UNIRAE_CACHE_DIR")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "unirae"


def keep_in_cache(write: Callable[[], Any], what: str) -> bool:
    """Call ``write`` in the first process; where that fails all go on, since what was to be kept is in their memory.

    A full or read-only cache must not cost what was computed for it, in a training run least of all.

    Args:
        write: raises UserError where it cannot write; gives a plain value.
        what: is kept, for the warning.

    Returns:
        whether it was written, the same in every process.
    """
    from unirae.core.distributed import is_main, on_main
    from unirae.core.errors import UserError
    from unirae.core.log import get_logger

    try:
        on_main(write)
    except UserError as error:
        if is_main():
            get_logger(__name__).warning(
                "%s is not kept and will be computed again next time: %s For another cache set UNIRAE_CACHE_DIR; an "
                "evaluation goes without one with %s",
                *(what, error, argument("cache", False)),
            )
        return False
    return True
