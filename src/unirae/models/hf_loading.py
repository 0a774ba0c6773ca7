"""Loading of transformers' models: from what is here first, and quietly."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from unirae.core.errors import WeightsError
from unirae.core.hub import hub_asked_once, hub_problem

T = TypeVar("T")


def here_first(
    source: str, load: Callable[..., T], *, local_only: bool = False, what: str = "the encoder"
) -> T:
    """Call ``load(local_files_only=…)``, first from what is here: a hub that is away costs many seconds.

    Raises:
        WeightsError: If it can be loaded neither from here nor from the hub; the message says why.
    """
    problem = ""
    for local_files_only in (True,) if local_only or Path(source).is_dir() else (True, False):
        with quiet_transformers(), nullcontext() if local_files_only else hub_asked_once():
            try:
                return load(local_files_only=local_files_only)
            except (OSError, ValueError) as error:
                problem = hub_problem(error, source)
    raise WeightsError(f"cannot load {what} from {source}: {problem}")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from progress bars and load reports: what matters we check and say ourselves."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
