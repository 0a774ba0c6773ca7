"""Labels: a check that those of a model and of data mean the same, and the ones that a user names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unirae.core.errors import ConfigError
from unirae.core.log import get_logger

if TYPE_CHECKING:
    from unirae.models.checkpoints.reading import Checkpoint

log = get_logger(__name__)


def check_labels(checkpoint: "Checkpoint | None", class_names: Sequence[str], *, accept: bool) -> None:
    """Refuse to continue a run on data whose labels mean something else.

    Args:
        checkpoint: the checkpoint to continue from; None for a new run, which takes any labels.
        accept: only warn of other names, or another order, of as many classes.

    Raises:
        ConfigError: If the class names, their order or their number differ from those of the checkpoint.
    """
    from unirae.core.differences import different_classes

    if checkpoint is None:
        return
    trained, file = checkpoint.about["class_names"], checkpoint.file
    if list(trained) == list(class_names):
        return
    what = different_classes(trained, class_names)
    if len(trained) != len(class_names):
        raise ConfigError(
            f"{file} was trained with other classes than the data have: {what}. Another number of classes needs "
            "another network: give back the old data, or start anew"
        )
    if not accept:
        raise ConfigError(
            f"{file} was trained with other classes than the data have: {what}. Each class would take over what "
            "another one learnt: give back the old data, or start anew; if the classes only have other names, "
            "ckpt_other_labels=true"
        )
    log.warning("%s: goes on with other classes than it was trained with: %s", file, what)


def parse_labels(text: str, class_names: Sequence[str], *, num_classes: int) -> tuple[int, ...]:
    """Labels from numbers and class names; ``num_classes`` itself stands for no label.

    A name is a class's whole name or one of its comma-separated synonyms, in any case. ``name=1`` is a name and
    ``number=1`` a number, whatever else they might be.

    Raises:
        ConfigError: If the model has no labels, or if a word is no label of the model or may mean several.
    """
    if num_classes == 0:
        raise ConfigError(f"--labels {text}: this model was trained without labels; leave the option out")
    named: dict[str, list[int]] = {}
    for number, name in enumerate(class_names):
        for synonym in {name.casefold(), *(part.strip().casefold() for part in name.split(","))}:
            named.setdefault(synonym, []).append(number)
    return tuple(_label(word.strip(), named, num_classes) for word in text.split(","))


def _label(word: str, named: dict[str, list[int]], num_classes: int) -> int:
    kind, _, rest = word.partition("=")
    if kind == "number":
        numbers, names = _numbers(rest, num_classes), []
    elif kind == "name":
        numbers, names = [], named.get(rest.casefold(), [])
    else:
        numbers, names = _numbers(word, num_classes), named.get(word.casefold(), [])
    found = sorted({*numbers, *names})
    if len(found) == 1:
        return found[0]
    if numbers and names:
        raise ConfigError(
            f"--labels: {word!r} is the number of one class and the name of another (number "
            f"{', '.join(map(str, names))}); write number={word} or name={word}"
        )
    if found:
        classes = ", ".join(f"number={number}" for number in found)
        raise ConfigError(f"--labels: {word!r} is the name of several classes; write which: {classes}")
    known = f", or a name: {', '.join(list(named)[:12])}{' …' if len(named) > 12 else ''}" if named else ""
    raise ConfigError(
        f"--labels: {word!r} is no class of this model; give a number from 0 to {num_classes - 1} "
        f"({num_classes} for no label){known}"
    )


def _numbers(word: str, num_classes: int) -> list[int]:
    return [int(word)] if word.isascii() and word.isdecimal() and int(word) <= num_classes else []
