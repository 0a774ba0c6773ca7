"""Where things are kept that can be computed again."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """``UNIRAE_CACHE_DIR``, or ``unirae`` in the user's cache folder; it need not exist yet."""
    given = os.environ.get("UNIRAE_CACHE_DIR")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "unirae"
