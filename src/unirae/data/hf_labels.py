"""The label column of a Hugging Face data set: one numbering of the classes for all of its splits.

Classes are those of the training split, in its order; another split's labels are matched by the class's name, because a
split may number the same names otherwise. None and -1 mean "no label", as in the data sets that keep the labels of
their test split to themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unirae.core.arguments import argument
from unirae.core.errors import DataError
from unirae.core.log import get_logger

if TYPE_CHECKING:
    from datasets import Dataset

log = get_logger(__name__)

NO_LABEL = -1
LABEL_NAMES = ("label", "labels", "cls", "class", "fine_label")
"""Columns that are taken for labels where none is named and none is a ClassLabel."""
_ALWAYS_NUMBERS = 20
"""Plain integers are class numbers as they are unless they need more classes than this, and than twice those in use."""
_ALWAYS_NAMES = 1000
"""Number of different texts that are always names of classes; more only where they are at most half of the rows."""

Value = int | str | None


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The classes of the rows that are used.

    Attributes:
        class_names: empty where no row has a label.
        numbers: the class of each used row; 0 where there are no classes.
        rows: which rows are used; None for all.
    """

    class_names: tuple[str, ...]
    numbers: list[int]
    rows: list[int] | None = None


def read_labels(rows: "Dataset", training: "Dataset", column: str, *, what: str, where: str) -> Labels:
    """The labels of ``rows``, numbered as those of ``training``.

    Args:
        training: the whole training split; it decides names and order of the classes, and needs images of each.
        what: the rows are called, for messages.

    Raises:
        DataError: If the column holds no labels, or the training split has no image of a class of ``rows``.
    """
    return numbered_labels(
        _values(rows, column, where),
        lambda: _values(training, column, where),
        names_of=lambda used: _names(used, training, column, where),
        column=f"column '{column}'",
        what=what,
        where=where,
    )


def numbered_labels(
    values: Sequence[Value],
    training: Callable[[], Sequence[Value]],
    *,
    names_of: Callable[[set[int | str]], tuple[str, ...]],
    column: str,
    what: str,
    where: str,
) -> Labels:
    """The classes of ``values``, each a name, a number, or None without a label, numbered as those of training.

    Args:
        training: gives the values of the whole training split.
        names_of: the names of the classes, in order, from the values that training uses.
        column: the place of the labels, for messages; ``what`` the rows are called.

    Raises:
        DataError: If the training split has no image of a class of ``values``.
    """
    if all(value is None for value in values):
        log.warning("%s: no image of %s has a label (%s): it is read without labels", where, what, column)
        return Labels(class_names=(), numbers=[0] * len(values))
    used = {value for value in training() if value is not None}
    names = names_of(used)
    if not names:
        log.warning(
            "%s: no image of the training split has a label (%s): %s is read without labels, too",
            *(where, column, what),
        )
        return Labels(class_names=(), numbers=[0] * len(values))
    number = {name: i for i, name in enumerate(names)}
    named = [None if value is None else str(value) for value in values]
    trained = set(map(str, used))
    if unknown := sorted({name for name in named if name is not None and name not in trained}):
        of_training = [name for name in names if name in trained]
        raise DataError(
            f"{where}: {what} has images of {_listed(unknown)} ({column}), of which the training split has "
            f"none; its classes are {_listed(of_training)}. Take those images out, or name another split"
        )
    labelled = [i for i, name in enumerate(named) if name is not None]
    numbers = [number[name] for name in named if name is not None]
    if len(labelled) == len(values):
        return Labels(class_names=names, numbers=numbers)
    log.warning(
        "%s: %d of the %d images of %s have no label (None, -1 or a number without a class, %s); they are "
        "left out (%s reads all images without labels)",
        *(where, len(values) - len(labelled), len(values), what, column, argument("source.labels", False)),
    )
    return Labels(class_names=names, numbers=numbers, rows=labelled)


def _values(rows: "Dataset", column: str, where: str) -> list[Value]:
    """Each row's class by name or plain number; None without a label."""
    from datasets import ClassLabel
    from datasets import Value as Plain

    feature = rows.features[column]
    table: Any = rows.select_columns([column]).with_format("arrow")[:]
    stored = table.column(column).to_pylist()
    if isinstance(feature, ClassLabel):
        names: Mapping[int, str] = dict(enumerate(feature.names))
        return [names.get(value) for value in stored]
    dtype = feature.dtype if isinstance(feature, Plain) else ""
    if dtype.startswith(("int", "uint")):
        return [None if value == NO_LABEL else value for value in stored]
    if dtype in ("string", "large_string"):
        return [value or None for value in stored]
    raise DataError(
        f"label column '{column}' of {where} must be ClassLabel, integers or names, not {feature}; choose another one "
        f"with {argument('source.label_column')}, or read the images without labels "
        f"({argument('source.labels', False)})"
    )


def _names(used: set[int | str], training: "Dataset", column: str, where: str) -> tuple[str, ...]:
    """The classes in the order of their numbers: of a ClassLabel its names, of integers 0 to the largest."""
    from datasets import ClassLabel

    if isinstance(feature := training.features[column], ClassLabel):
        return tuple(feature.names) if used else ()
    other = f"choose another one with {argument('source.label_column')}, or read the images without labels"
    return names_of_values(used, len(training), column=f"column '{column}'", other=other, where=where)


def names_of_values(
    used: set[int | str], count: int, *, column: str, other: str, where: str
) -> tuple[str, ...]:
    """The classes in the order of their numbers, from the labels of training: names by alphabet, integers 0 to the
    largest.

    Args:
        count: number of training images.
        other: advice where the labels are no classes, before the argument that does without.

    Raises:
        DataError: If there are too many different texts.
    """
    if texts := sorted(value for value in used if isinstance(value, str)):
        if len(texts) > max(_ALWAYS_NAMES, count // 2):
            raise DataError(
                f"label {column} of {where} holds {len(texts)} different texts in {count} rows, which "
                f"are no classes; {other} ({argument('source.labels', False)})"
            )
        return tuple(texts)
    numbers = sorted(value for value in used if isinstance(value, int))
    if not numbers:
        return ()
    if numbers[0] >= 0 and numbers[-1] < max(_ALWAYS_NUMBERS, 2 * len(numbers)):
        return tuple(map(str, range(numbers[-1] + 1)))
    log.warning(
        "%s: the labels in %s are %d different numbers from %d to %d; they are numbered anew, 0 to %d, and "
        "keep their numbers as names",
        *(where, column, len(numbers), numbers[0], numbers[-1], len(numbers) - 1),
    )
    return tuple(map(str, numbers))


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
