"""One logger for the package: ``log = get_logger(__name__)``."""

import logging


def get_logger(name: str) -> logging.Logger:
    """The logger of a module, below ``unirae``."""
    return logging.getLogger(name if name.startswith("unirae") else f"unirae.{name}")
