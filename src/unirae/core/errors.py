"""The errors that a user can cause and mend: one line with the cause, one with the remedy."""

from collections.abc import Iterator


class UserError(Exception):
    """Bad input. The command line prints its message without a traceback and exits with status 2.

    The message says what was wrong, where, and what would be right.
    """


class ConfigError(UserError):
    """A configuration value that cannot work."""


class InputError(UserError, ValueError):
    """A tensor or an argument, given from Python, that is of another type, shape or range than is understood."""


class DataError(UserError):
    """A data source that is missing, empty or unreadable."""


class WeightsError(UserError):
    """A weight file that is missing, damaged, of another kind, or does not fit the model."""


class NonFiniteError(UserError):
    """Training met a NaN or an infinity; the message names the step, the terms and the last good checkpoint."""


class RunFinished(UserError):
    """A run that was to go on has no step left; the message says how to lengthen it. Exit status 0."""


class RunInterrupted(UserError):
    """The user stopped a run; the message says where it was saved and how to continue. Exit status 130."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those behind it, the nearest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
