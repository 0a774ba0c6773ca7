"""One logger for the package: ``log = get_logger(__name__)``."""

import logging

ON_BAR = "on_bar"
"""Attribute of a record: a progress bar on the terminal says the same, so that the line is for log files alone."""


def get_logger(name: str) -> logging.Logger:
    """The logger of a module, below ``unirae``."""
    return logging.getLogger(name if name.startswith("unirae") else f"unirae.{name}")


def log_once(log: logging.Logger, level: int, text: str) -> None:
    """Log a line unless this process has logged it before: both splits of a data set read the same folder."""
    if (log.name, text) not in _SAID:
        _SAID.add((log.name, text))
        log.log(level, "%s", text)


_SAID: set[tuple[str, str]] = set()
