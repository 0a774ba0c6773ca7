"""Meaning of a tree of image files: which folder is a class, which a split. Paths only, nothing is opened."""

import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, DataError
from unirae.core.log import get_logger, log_once
from unirae.core.names import count_of, first_of, on_one_line, printable
from unirae.data.file_kinds import OTHER, FileKinds, LeftOut, is_hidden, is_of_program
from unirae.data.generated import OVERVIEW, has_overview
from unirae.data.split import held_out
from unirae.data.split_folders import ROOT, StrayImagesError, choose_splits, mixes_splits, understood

log = get_logger(__name__)

EXPECTED_LAYOUT = (
    "expected CLASS/*.jpg, or train/CLASS/*.jpg beside val/CLASS/*.jpg, or a flat folder of images"
)
_STRAY = 0.01
"""The part of the images that may lie outside of the class or split folders and be left out."""


@dataclass(frozen=True)
class Entry:
    """A file below the root, in POSIX form, and its class; -1 without labels."""

    path: str
    label: int


@dataclass(frozen=True)
class Listing:
    """Both splits of a tree.

    Attributes:
        class_names: empty where there are no labels.
        strays: images outside of the class or split folders, which were left out.
        other_folders: folders beside the splits that were left out, with their images.
    """

    class_names: tuple[str, ...]
    train: tuple[Entry, ...]
    val: tuple[Entry, ...]
    strays: tuple[str, ...] = ()
    other_folders: dict[str, int] = field(default_factory=dict)


def find_images(folder: str | Path) -> list[str]:
    """List the relative POSIX paths of all images below ``folder``, sorted; logs what is left out.

    Raises:
        DataError: If the folder is missing or cannot be read, or if all of its files are left out.
    """
    paths, left_out = find_files(folder)
    say_left_out(str(folder), left_out)
    if not paths and left_out.summary():
        raise DataError(
            f"{folder} holds no images that are read; it has {left_out.summary()}; {EXPECTED_LAYOUT}"
        )
    return paths


def find_files(folder: str | Path) -> tuple[list[str], LeftOut]:
    """List the relative POSIX paths of all images below ``folder``, sorted, and what else is there.

    A folder is visited once, also where links lead to it, and rather by its own name than by a link's.

    Raises:
        DataError: If the folder is missing or cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"data folder {folder} does not exist or is not a folder; {EXPECTED_LAYOUT}")
    left_out, kinds = LeftOut(), FileKinds()
    found = []
    try:
        for path in walk(root, left_out, kinds):
            kind = kinds.of(path)
            if kind is None:
                found.append(path)
            else:
                left_out.kinds[kind] += 1
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}. Check its permissions.") from error
    left_out.visited_links.sort()
    left_out.dead_links.sort()
    return sorted(found), left_out


def say_left_out(where: str, left_out: LeftOut) -> None:
    """Log in one line what is not read; a warning where a user may miss it."""
    if left_out.summary():
        level = logging.WARNING if left_out.matters else logging.INFO
        log_once(log, level, f"{on_one_line(where)}: left out {left_out.summary()}")


def walk(root: Path, left_out: LeftOut, kinds: FileKinds) -> Iterator[str]:
    """Relative paths of the files below ``root``; first those in real folders, then those behind links."""
    visited = {_identity(folder) for folder in (root.resolve(), *root.resolve().parents)}
    links: deque[str] = deque()
    folders, behind_link = [""], False
    while folders or links:
        if not folders:
            folders, behind_link = [links.popleft()], True
        below = folders.pop()
        if below:
            identity = _identity(root / below)
            if behind_link and identity in visited:
                left_out.visited_links.append(below)
                continue
            visited.add(identity)
        with os.scandir(root / below) as entries:
            entries = sorted(entries, key=lambda entry: entry.name)
        overview = has_overview(root / below, {entry.name for entry in entries})
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if is_hidden(entry.name):
                continue
            if overview and entry.name == OVERVIEW:
                left_out.kinds[OTHER] += 1
                continue
            kind = _kind_of_entry(entry)
            if kind == "folder" and is_of_program(entry.name):
                left_out.program_folders[entry.name] += 1
            elif kind == "folder":
                (links if entry.is_symlink() else folders).append(path)
            elif kind == "dead link" and kinds.of(path) is not None:
                left_out.dead_links.append(path)
            elif kind == "special":
                left_out.kinds[OTHER] += 1
            else:
                yield path


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _kind_of_entry(entry: "os.DirEntry[str]") -> str:
    """Kind of an entry: ``folder``, ``file``, ``dead link`` or ``special`` (a pipe or device, never to be opened)."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        return "dead link" if entry.is_symlink() and not os.path.exists(entry.path) else "special"
    except OSError:  # links in a circle
        return "dead link"


def arrange(
    paths: Iterable[str],
    *,
    val_fraction: float,
    where: str,
    labels: bool = True,
    train_split: str | None = None,
    val_split: str | None = None,
) -> Listing:
    """Read classes and splits off the image paths of a folder or archive called ``where``.

    Without a validation folder the ``val_fraction`` of the paths with the smallest hash is held out.

    Args:
        labels: whether folders are classes; otherwise all images of a split are taken, wherever they lie in it.
        train_split: the folder of the training split; None finds it by its name, "." says that no folder is a split.
        val_split: the folder of the validation split; None finds it by its name.

    Raises:
        ConfigError: If ``val_fraction`` is not in [0, 1].
        DataError: If there are no images, if splits or classes cannot be told, if too many images lie outside of the
            folders, or if validation has classes that training lacks.
    """
    if not 0 <= val_fraction <= 1:
        raise ConfigError(f"val_fraction={val_fraction} must be between 0 and 1")
    found = [PurePosixPath(path) for path in sorted(paths)]
    if not found:
        raise DataError(f"{where} holds no images; {EXPECTED_LAYOUT}")
    wanted = {name for name in (train_split, val_split) if name not in (None, ROOT)}
    depth, inside, beside = _unwrapped(found, wanted)
    folders = Counter(path.parts[depth] for path in inside if len(path.parts) > depth + 1)
    train, val = choose_splits(folders, train=train_split, val=val_split, where=where)
    if train is None and train_split != ROOT:
        _refuse_splits_below(inside, depth, where)
    if train is None and not labels:  # no folder means anything, so no image is outside
        return _hold_out(Listing((), _unlabelled(found), (), ()), val_fraction)
    around = f"the folder '{on_one_line('/'.join(inside[0].parts[:depth]))}'"
    _check_strays(beside, len(found), where, around, remedy=_CLASSLESS if train is None else _FLAT)
    if train is None:
        classes, entries, strays = _label(inside, depth, where, labels)
        return _hold_out(Listing(classes, entries, (), _texts(beside, strays)), val_fraction)
    loose = [path for path in inside if len(path.parts) == depth + 1]
    splits = first_of([name for name in (train, val) if name], quoted=True)
    _check_strays(loose, len(inside), where, f"the split folders {splits}", remedy=_FLAT)
    others = {name: count for name, count in folders.items() if name not in (train, val)}
    _say_splits(where, train, val, others)
    parts = {name: [path for path in inside if path.parts[depth] == name] for name in folders}
    classes, entries, strays = _label(parts[train], depth + 1, f"{where}/{train}", labels)
    if val is None:
        return _hold_out(Listing(classes, entries, (), _texts(beside, loose, strays), others), val_fraction)
    val_classes, val_entries, val_strays = _label(parts[val], depth + 1, f"{where}/{val}", labels)
    val_entries = _renumbered(val_entries, val_classes, classes, f"{where}/{val}", f"{where}/{train}")
    return Listing(classes, entries, val_entries, _texts(beside, loose, strays, val_strays), others)


def _unlabelled(paths: Iterable[PurePosixPath]) -> tuple[Entry, ...]:
    return tuple(Entry(path.as_posix(), -1) for path in paths)


def _texts(*groups: Iterable[PurePosixPath]) -> tuple[str, ...]:
    return tuple(path.as_posix() for group in groups for path in group)


def _hold_out(listing: Listing, fraction: float) -> Listing:
    """The listing with a part of its training images as validation."""
    entries = listing.train
    val = held_out([entry.path for entry in entries], fraction)
    train = tuple(entry for i, entry in enumerate(entries) if i not in val)
    return replace(listing, train=train, val=tuple(entries[i] for i in sorted(val)))


def say_classes(where: str, class_names: tuple[str, ...]) -> None:
    """Log the first dozen classes and their number, and how to do without where they look like shards."""
    if not class_names:
        return
    line = f"{on_one_line(where)}: {count_of(len(class_names), 'class', 'classes')}: {first_of(class_names, most=12)}"
    widths = {len(name) for name in class_names}
    if (
        len(class_names) > 1
        and all(name.isdecimal() for name in class_names)
        and widths - {1, 2}
        and len(widths) == 1
    ):
        line += f" (if these are no classes but shards: {argument('source.labels', False)})"
    log_once(log, logging.INFO, line)


def _unwrapped(
    paths: list[PurePosixPath], wanted: set[str]
) -> tuple[int, list[PurePosixPath], list[PurePosixPath]]:
    """Count the leading folders that merely wrap the tree; also the images inside, and the few images beside.

    A folder wraps if it is alone at its level and nearly all images lie in folders below it, unless it is ``wanted``.
    """
    depth, inside = 0, paths
    while True:
        here = {path.parts[depth] for path in inside if len(path.parts) > depth + 1}
        deeper = [path for path in inside if len(path.parts) > depth + 2]
        if len(here) != 1 or here & wanted or len(paths) - len(deeper) > _STRAY * len(paths) or not deeper:
            taken = set(inside) if depth else ()
            return depth, inside, [path for path in paths if path not in taken] if depth else []
        depth, inside = depth + 1, deeper


def _refuse_splits_below(paths: list[PurePosixPath], depth: int, where: str) -> None:
    """Refuse ``cat/train/1.jpg`` beside ``cat/val/2.jpg``: validation images would be trained on."""
    in_folders = [path for path in paths if len(path.parts) > depth + 1]
    below: dict[str, set[str]] = {}
    for path in in_folders:
        inner = path.parts[depth + 1] if len(path.parts) > depth + 2 else ""
        below.setdefault(path.parts[depth], set()).add(inner)
    everywhere = set[str]().union(*below.values())
    above = [folder for folder in sorted(below) if mixes_splits(below[folder])]
    if len(everywhere) > 1 and all(understood(name) for name in everywhere):
        above = sorted(below)
    if above:
        names = set[str]().union(*(below[folder] for folder in above)) - {""}
        raise DataError(
            f"{where}: {first_of(sorted(names), quoted=True)} below {first_of(above, quoted=True)}: splits must lie "
            f"above the classes; {EXPECTED_LAYOUT}. If those are no splits: {argument('source.train_split', ROOT)}"
        )


def _label(
    paths: list[PurePosixPath], depth: int, where: str, labels: bool
) -> tuple[tuple[str, ...], tuple[Entry, ...], tuple[PurePosixPath, ...]]:
    """Class names, entries and the images outside; the class is the folder at ``depth``."""
    in_folders = [path for path in paths if len(path.parts) > depth + 1]
    if not labels or not in_folders:
        return (), _unlabelled(paths), ()
    outside = [path for path in paths if len(path.parts) == depth + 1]
    folders = sorted({path.parts[depth] for path in in_folders})
    which = f"the class folders {first_of(folders, quoted=True)}"
    _check_strays(outside, len(paths), where, which, remedy=_CLASSLESS)
    names = tuple(printable(folder) for folder in folders)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"{where}: two folders would be the class '{twice}'; rename one, so that its name is UTF-8"
        )
    number = {folder: i for i, folder in enumerate(folders)}
    return names, tuple(Entry(p.as_posix(), number[p.parts[depth]]) for p in in_folders), tuple(outside)


_CLASSLESS = {"source.labels": False}
_FLAT = {"source.train_split": ROOT, **_CLASSLESS}
"""What takes all images, wherever they lie: where no folder is a split, and in any case."""


def _check_strays(
    strays: list[PurePosixPath], total: int, where: str, folders: str, *, remedy: dict[str, Any]
) -> None:
    """Leave a few stray images out with a line; refuse where there are more, and name the ``remedy``."""
    if not strays:
        return
    first = on_one_line(strays[0].as_posix())
    if len(strays) > _STRAY * total:
        flat = " ".join(argument(name, value) for name, value in remedy.items())
        raise StrayImagesError(
            f"{on_one_line(where)}: {count_of(len(strays), 'image')} outside of {folders}, with {total - len(strays)} "
            f"inside ('{first}' is the first outside). Move them into folders, or elsewhere; or take all without "
            f"classes: {flat}"
        )
    line = f"{on_one_line(where)}: left out {count_of(len(strays), 'image')} outside of {folders}: {first}"
    log_once(log, logging.WARNING, line + (" and so on" if len(strays) > 1 else ""))


def _say_splits(where: str, train: str, val: str | None, others: dict[str, int]) -> None:
    """Log which folders are the splits, and what lies beside them."""
    splits = f"trains on '{on_one_line(train)}'" + (f", validates on '{on_one_line(val)}'" if val else "")
    beside = ", ".join(
        f"'{on_one_line(name)}' ({count_of(count, 'image')})" for name, count in sorted(others.items())[:6]
    )
    more = f" and {len(others) - 6} folders more" if len(others) > 6 else ""
    rest = f"; left out {beside}{more}" if others else ""
    log_once(log, logging.WARNING if others else logging.INFO, f"{on_one_line(where)}: {splits}{rest}")


def _renumbered(
    entries: tuple[Entry, ...], names: tuple[str, ...], classes: tuple[str, ...], val: str, train: str
) -> tuple[Entry, ...]:
    """Validation's entries with the numbers that its classes have in training."""
    if not set(names) <= set(classes) or bool(names) != bool(classes):
        unknown = sorted(set(names) - set(classes))[:3] or "no class folders"
        raise DataError(
            f"{val} has {unknown}, unlike {train}; {EXPECTED_LAYOUT}. To hold a part of {train} out instead, name that "
            f"folder as the data; to take pictures without classes: {argument('source.labels', False)}"
        )
    number = {label: classes.index(name) for label, name in enumerate(names)}
    return tuple(Entry(entry.path, number.get(entry.label, -1)) for entry in entries)
