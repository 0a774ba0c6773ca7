"""Search for the folders that are splits: the usual names in any case, also with a year or a size behind.

Folders that look like splits but are not understood are asked about, and never taken for classes.
"""

import re
from collections.abc import Iterable, Mapping

from unirae.core.arguments import argument
from unirae.core.errors import DataError
from unirae.core.names import first_of, on_one_line

_TRAIN = ("train", "training")
_VAL = ("val", "validation", "valid", "dev", "eval", "evaluation", "holdout", "test", "testing")
"""Names of the validation split, the preferred ones first."""
_WORDS = frozenset(
    (*_TRAIN, *_VAL, "trainset", "trainval", "valset", "devset", "testset", "traindata", "testdata")
)
_SUFFIX = re.compile(r"[\s_.-]*\d+([x×]\d+)?(px|k)?$")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_CLASSES_PER_SPLIT_NAME = 3
"""A name such as ``train`` among at least so many others is a class: CIFAR-100 and VOC have one."""
ROOT = "."
"""Value of ``train_split`` for the folder itself, so that none of its folders is a split."""


class StrayImagesError(DataError):
    """Too many images outside of the folders that are read."""


class UnclearSplitsError(DataError):
    """Folders that may or may not be splits."""


def understood(name: str) -> str | None:
    """The split's word that a folder's name stands for; None where it stands for none."""
    word = _SUFFIX.sub("", name.lower().strip())
    return word if word in _TRAIN or word in _VAL else None


def split_word(name: str) -> str | None:
    """The split's word that a name holds, such as ``cc3m-train-0001``; None where it holds none, or several."""
    found = {word for word in re.split(r"[^a-z]+", name.lower()) if word in _TRAIN or word in _VAL}
    return found.pop() if len(found) == 1 else None


def looks_like_split(name: str) -> bool:
    """Say whether a split's word is among the words of a name."""
    return understood(name) is not None or any(word.lower() in _WORDS for word in _WORD.findall(name))


def mixes_splits(names: Iterable[str]) -> bool:
    """Say whether some of the folders side by side are for training and others, it seems, for validation."""
    words = {name: understood(name) for name in names}
    found = set(words.values())
    unclear = any(word is None and looks_like_split(name) for name, word in words.items())
    return bool(found & set(_TRAIN) and found & set(_VAL)) or (unclear and found != {None})


def validation_split(names: Iterable[str]) -> str | None:
    """The one of a data set's splits that is for validation, ``val`` before ``test``; None where there is none.

    Raises:
        DataError: If several folders are equally likely.
    """
    words = {name: understood(name) for name in names}
    found = _preferred([name for name, word in words.items() if word in _VAL], words)
    if len(found) > 1:
        raise DataError(
            f"which of {', '.join(found)} is the validation split: {argument('source.val_split', 'NAME')}"
        )
    return found[0] if found else None


def choose_splits(
    folders: Mapping[str, int], *, train: str | None, val: str | None, where: str
) -> tuple[str | None, str | None]:
    """The folders of the training and the validation split; (None, None) where folders are classes.

    A training split without a validation split has a part held out.

    Args:
        folders: the number of images below each folder.
        train: the user's choice, or None to find it; likewise ``val``.

    Raises:
        DataError: If a chosen folder is not there, or the same is chosen for both.
        UnclearSplitsError: If it cannot be told which folders are splits.
    """
    if train == ROOT and val is None:
        return None, None
    for given in filter(None, (train, val)):
        if given not in folders:
            raise DataError(
                f"{where} has no folder '{on_one_line(given)}' with images; it has {first_of(sorted(folders), most=12)}"
            )
    if train is not None and train == val:
        raise DataError(same_split(where, train))
    if train is not None and val is not None:
        return train, val
    words = {name: understood(name) for name in folders}
    trains = [train] if train else [name for name in folders if words[name] in _TRAIN and name != val]
    vals = [val] if val else [name for name in folders if words[name] in _VAL and name != train]
    if not val:
        vals = _preferred(vals, words)
    plain = [name for name in folders if not looks_like_split(name) and name not in (train, val)]
    if len(trains) == len(vals) == 1:
        used, beside = folders[trains[0]] + folders[vals[0]], sum(folders[name] for name in plain)
        if train or val or beside <= used:
            return trains[0], vals[0]
    if train and not vals:
        return train, None
    split_like = len(folders) - len(plain)
    may_be_classes = not (train or val or (trains and vals))
    if not split_like or (may_be_classes and len(plain) >= _CLASSES_PER_SPLIT_NAME * split_like):
        return None, None
    if len(folders) == 1 and words[next(iter(folders))] is not None:
        return next(iter(folders)), None
    raise UnclearSplitsError(_question(where, folders, plain))


def same_split(where: str, name: str) -> str:
    """The error where training images would also be validation's."""
    return (
        f"{where}: '{on_one_line(name)}' is both the training and the validation split, so that a score would be of "
        f"images that were trained on; choose another {argument('source.val_split')}, or leave it out to hold "
        "a part out"
    )


def _preferred(names: list[str], words: Mapping[str, str | None]) -> list[str]:
    """The names with the first word of the list, ``val`` before ``test``."""
    first = next((word for word in _VAL if any(words[name] == word for name in names)), None)
    return [name for name in names if words[name] == first]


def _question(where: str, folders: Mapping[str, int], plain: list[str]) -> str:
    splits = first_of(sorted(set(folders) - set(plain)), most=6, quoted=True)
    beside = f", beside {first_of(sorted(plain), quoted=True)}" if plain else ""
    return (
        f"{where}: folders that look like splits ({splits}{beside}) are not understood; say which is which by "
        f"{argument('source.train_split', 'NAME')} and {argument('source.val_split', 'NAME')}; "
        f"{argument('source.train_split', ROOT)} says that all of them are classes"
    )
