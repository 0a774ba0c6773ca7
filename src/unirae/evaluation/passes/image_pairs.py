"""Pairs of images and originals: by the names of files, or by an order that is certain.

Folders are read in the order of their names as text, where ``10.png`` stands before ``2.png``. A file of images has an
order and no names: against one, the numbers in a folder's names are what counts. The rows of a Hugging Face data set
may come in either order, and often keep the names of the files that they were made from.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unirae.core.errors import DataError
from unirae.core.names import count_of
from unirae.data.stored import StoredImages


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pair k is image ``images[k]`` and its original ``originals[k]``; ``by`` is what says so."""

    images: list[int]
    originals: list[int]
    by: Literal["names", "numbers", "order"]


def find_pairs(images: StoredImages, originals: StoredImages) -> Pairs:
    """Pair two sets.

    Raises:
        DataError: If the counts of the sets differ, names of one are not in the other, or an order is not
            certain.
    """
    if len(images) != len(originals):
        raise DataError(
            f"{count_of(len(images), 'image')} and {count_of(len(originals), 'original')} make no pairs; PSNR, SSIM "
            "and LPIPS compare one by one"
        )
    as_read = list(range(len(images)))
    ours, theirs = _stems(images), _stems(originals)
    rows = _are_rows(images), _are_rows(originals)
    if ours is not None and theirs is not None and not (any(rows) and set(ours).isdisjoint(theirs)):
        return Pairs(images=as_read, originals=_by_name(ours, theirs), by="names")
    if ours is not None and not rows[0]:
        return Pairs(images=_by_position(ours, of_rows=rows[1]), originals=as_read, by="numbers")
    if theirs is not None and not rows[1]:
        return Pairs(images=as_read, originals=_by_position(theirs, of_rows=rows[0]), by="numbers")
    return Pairs(images=as_read, originals=as_read, by="order")


def by_number(names: Sequence[str]) -> list[int]:
    """The positions of names in the order of the one number in which they differ.

    Raises:
        DataError: If the order by number is not certain.
    """
    if len(names) == 1:
        return [0]
    parts = [re.split("([0-9]+)", name) for name in names]
    texts = {tuple(part[::2]) for part in parts}
    varying = (
        [k for k in range(1, len(parts[0]), 2) if len({part[k] for part in parts}) > 1]
        if len(texts) == 1
        else []
    )
    if len(varying) != 1:
        raise _unordered(names, "do not differ in one number alone")
    words = [part[varying[0]] for part in parts]
    padded = {len(word) for word in words if word.startswith("0") and len(word) > 1}
    if len(padded) > 1 or any(len(word) < width for word in words for width in padded):
        raise _unordered(names, "have numbers of which some are padded with zeros and others are not")
    return sorted(range(len(names)), key=lambda i: int(words[i]))


def _are_rows(images: StoredImages) -> bool:
    """Say whether the images are rows of a table, which have an order whether or not they have names."""
    return images.source.name == "hf"


def _by_position(names: Sequence[str], *, of_rows: bool) -> list[int]:
    """The order of a folder's names that fits a set in which none of them occurs.

    Rows may have been written in the order of numbers or of text, so that both must be the same.
    """
    order = by_number(names)
    if of_rows and order != list(range(len(names))):
        raise _unordered(names, "stand in another order by number than as text, and the rows may have either")
    return order


def _stems(images: StoredImages) -> list[str] | None:
    """Names without suffixes; None where the images have no names."""
    stems = [images.stem_of(number) for number in range(len(images))]
    named = [stem for stem in stems if stem is not None]
    return named if len(named) == len(stems) else None


def _by_name(ours: list[str], theirs: list[str]) -> list[int]:
    number = {name: i for i, name in enumerate(theirs)}
    for names, what in ((ours, "images"), (theirs, "originals")):
        if len(set(names)) != len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise DataError(f"two of the {what} are called {twice}, so pairs cannot be found by their names")
    lacking = sorted(set(ours) - set(number))
    if lacking:
        raise DataError(
            f"no original is called {lacking[0]} as an image is ({len(lacking)} such; the originals have, for example, "
            f"{sorted(set(theirs) - set(ours))[0]}): pairs are found by the names of the files, which must be the same "
            "in both folders"
        )
    return [number[name] for name in ours]


def _unordered(names: Sequence[str], why: str) -> DataError:
    return DataError(
        f"{names[0]}, {names[1]} and the other names of the folder {why}, so it is not certain which image belongs to "
        "which image of the other set, which has an order but not these names. Name the files by their numbers in that "
        "order, all of one width as 000.png, 001.png, …, or give both sets as folders with the same names"
    )
