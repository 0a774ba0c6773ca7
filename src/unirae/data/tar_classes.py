"""The classes of tar shards: numbers or names of ``cls`` and ``json`` members, and the names that go with numbers.

Labels that are numbers are named by ``classes.json`` beside the shards or their splits, if it is there.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unirae.core.errors import UserError
from unirae.core.io import read_json
from unirae.core.log import get_logger
from unirae.core.names import on_one_line
from unirae.data.hf_labels import NO_LABEL, Labels, Value, names_of_values, numbered_labels
from unirae.data.tar_index import ShardIndex

log = get_logger(__name__)

CLASSES = "classes.json"
"""A JSON list: the name of class 0, of class 1, and so on."""
_PLACES = "cls or json members"


def classes_of(
    indexes: Sequence[ShardIndex],
    training: Sequence[ShardIndex],
    chosen: np.ndarray,
    *,
    folder: Path,
    what: str,
    where: str,
) -> Labels:
    """The classes of the ``chosen`` ones of the indexes' samples, numbered as those of all training samples.

    Args:
        chosen: of each sample of ``indexes``, whether it counts.
        folder: of the shards or of their splits, where the classes may be named.
        what: the samples are called, for messages; ``where`` the data.

    Raises:
        DataError: If there are too many names, or if training has no sample of a class.
    """
    of_these = _labels_of(indexes)
    of_training = of_these if training is indexes else _labels_of(training)
    used = {label for labels in (of_these, of_training) for label in labels if label is not None}
    if not used:
        return Labels(class_names=(), numbers=[0] * int(chosen.sum()))
    named = _names_in(folder, used)
    if named is not None:
        of_these, of_training = ([_name(named, n) for n in labels] for labels in (of_these, of_training))
    elif any(isinstance(label, str) for label in used):  # numbers among names are names
        of_these, of_training = (
            [None if label is None else str(label) for label in labels] for labels in (of_these, of_training)
        )

    def names_of(used: set[int | str]) -> tuple[str, ...]:
        if named is not None:
            return named
        return names_of_values(
            used,
            len(of_training),
            column="members (cls or json)",
            other="read the pictures without labels",
            where=where,
        )

    return numbered_labels(
        [of_these[i] for i in np.flatnonzero(chosen)],
        lambda: of_training,
        names_of=names_of,
        column=_PLACES,
        what=what,
        where=where,
    )


def _names_in(folder: Path, used: set[int | str]) -> tuple[str, ...] | None:
    """The names in ``classes.json``; None where there is none, or where it does not fit the labels, with a line."""
    file = folder / CLASSES
    if not file.is_file():
        return None
    try:
        names = read_json(file)
    except (UserError, OSError) as error:
        log.warning("the classes keep their numbers as names: %s", error)
        return None
    fits = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if fits and len(set(names)) == len(names) and all(label in range(len(names)) for label in used):
        return tuple(names)
    most = max((label for label in used if isinstance(label, int)), default=0)
    log.warning(
        "%s is not used: it should be a list of different names for the classes from 0 to %d, or be removed",
        *(on_one_line(str(file), most=500), most),
    )
    return None


def _name(names: tuple[str, ...], label: Value) -> str | None:
    return names[label] if isinstance(label, int) else None


def _labels_of(indexes: Sequence[ShardIndex]) -> list[Value]:
    return [None if label == NO_LABEL else label for index in indexes for label in index.labels()]
