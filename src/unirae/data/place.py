"""Whether data are where they are said to be: one look, before anything is loaded or listed."""

import os
from pathlib import Path

from unirae.core.arguments import argument
from unirae.core.errors import DataError
from unirae.core.names import printable
from unirae.data.source import require_data_dir


def names_hub(where: str) -> bool:
    """Say whether a data set of this name can be on the hub, ``owner/name`` or ``name``: it is plainly no path."""
    return where.count("/") <= 1 and not where.startswith((".", "/", "~"))


def check_place(data_dir: str | os.PathLike[str] | None, *, may_be_on_hub: bool) -> None:
    """Refuse a place of data where nothing is.

    Args:
        may_be_on_hub: take a name that is no path without asking the hub.

    Raises:
        DataError: If no place is given, or there is nothing of that name.
    """
    where = str(require_data_dir(data_dir))
    if may_be_on_hub and names_hub(where):
        return
    try:
        path = Path(where).expanduser()
        if "{" in where and not path.exists():  # a pattern of several files: the folder before it
            path = Path(str(path).partition("{")[0] + "_").parent
        path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # a name with a null byte, a home that nobody has
        reason = getattr(error, "strerror", None) or error
        right = "a folder or file of images" + (", or a hub name, owner/name" if may_be_on_hub else "")
        raise DataError(
            f"{argument('source.data_dir', printable(where))}: cannot open the data: {reason}. Give {right}"
        ) from None
