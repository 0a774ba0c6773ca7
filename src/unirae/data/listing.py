"""What a tree of image files means: which folder is a class, which a split. Paths only, nothing is opened."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unirae.core.errors import ConfigError, DataError
from unirae.core.log import get_logger
from unirae.data.split import held_out

log = get_logger(__name__)

EXPECTED_LAYOUT = (
    "expected CLASS/*.jpg, or train/CLASS/*.jpg beside val/CLASS/*.jpg, or a flat folder of images"
)
_SUFFIXES = ".jpg .jpeg .jfif .png .webp .avif .bmp .gif .tif .tiff .jp2 .ppm .pgm .pbm .tga".split()  # noqa: SIM905
_TRAIN_NAMES = ("train", "training")
_VAL_NAMES = ("val", "validation", "valid", "test")


@dataclass(frozen=True)
class Entry:
    """A file below the root, in POSIX form, and its class; -1 in a flat folder."""

    path: str
    label: int


@dataclass(frozen=True)
class Listing:
    """Both splits of a tree. ``class_names`` is empty for a flat one."""

    class_names: tuple[str, ...]
    train: tuple[Entry, ...]
    val: tuple[Entry, ...]


def is_image_path(path: str) -> bool:
    """Whether the name looks like an image that is meant to be seen."""
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts if part != ".")
    return not hidden and PurePosixPath(path).suffix.lower() in _SUFFIXES


def find_images(folder: str | Path) -> list[str]:
    """Relative POSIX paths of all images below ``folder``, sorted.

    Raises:
        DataError: it is missing or cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"data folder {folder} does not exist or is not a folder; {EXPECTED_LAYOUT}")

    def refuse(error: OSError) -> None:
        raise DataError(f"cannot read {error.filename}: {error.strerror}. Check its permissions.") from error

    found = []
    for root, _, files in os.walk(folder, onerror=refuse, followlinks=True):
        below = Path(root).relative_to(folder)
        found += [(below / name).as_posix() for name in files]
    return sorted(path for path in found if is_image_path(path))


def arrange(paths: Iterable[str], *, val_fraction: float, where: str) -> Listing:
    """Read classes and splits off the image paths of a folder or archive called ``where``.

    Without a validation folder the ``val_fraction`` of the paths with the smallest hash is held out.

    Raises:
        DataError: there are no images, or validation has classes that training lacks.
    """
    if not 0 <= val_fraction <= 1:
        raise ConfigError(f"val_fraction={val_fraction} must be between 0 and 1")
    found = [PurePosixPath(path) for path in sorted(paths)]
    if not found:
        raise DataError(f"{where} holds no images; {EXPECTED_LAYOUT}")
    depth = _wrapping_folders(found)
    train_name, val_name = _split_folders(
        {path.parts[depth] for path in found if len(path.parts) > depth + 1}
    )
    if val_name is None:
        classes, entries = _label(found, depth, where)
        val = held_out([entry.path for entry in entries], val_fraction)
        train_entries = tuple(entry for i, entry in enumerate(entries) if i not in val)
        return Listing(classes, train_entries, tuple(entries[i] for i in sorted(val)))
    train_files, val_files = ([p for p in found if p.parts[depth] == n] for n in (train_name, val_name))
    classes, train_entries = _label(train_files, depth + 1, where)
    val_classes, val_entries = _label(val_files, depth + 1, where)
    if not set(val_classes) <= set(classes) or bool(classes) != bool(val_classes):
        unknown = sorted(set(val_classes) - set(classes))[:3] or "no class folders"
        raise DataError(f"{where}/{val_name} has {unknown}, unlike {where}/{train_name}; {EXPECTED_LAYOUT}")
    number = {val_label: classes.index(name) for val_label, name in enumerate(val_classes)}
    relabelled = tuple(Entry(entry.path, number.get(entry.label, -1)) for entry in val_entries)
    return Listing(classes, train_entries, relabelled)


def _wrapping_folders(paths: list[PurePosixPath]) -> int:
    """How many leading folders merely wrap the tree: shared by all, with folders below."""
    depth = 0
    while all(len(p.parts) > depth + 2 for p in paths) and len({p.parts[depth] for p in paths}) == 1:
        depth += 1
    return depth


def _split_folders(names: set[str]) -> tuple[str | None, str | None]:
    train = next((name for name in _TRAIN_NAMES if name in names), None)
    val = next((name for name in _VAL_NAMES if name in names), None)
    return (train, val) if train and val else (None, None)


def _label(paths: list[PurePosixPath], depth: int, where: str) -> tuple[tuple[str, ...], tuple[Entry, ...]]:
    """Class names and entries; the class is the folder at ``depth``."""
    in_folders = [p for p in paths if len(p.parts) > depth + 1]
    if not in_folders:
        return (), tuple(Entry(p.as_posix(), -1) for p in paths)
    if len(in_folders) < len(paths):
        log.warning("%s: ignoring %d images outside of class folders", where, len(paths) - len(in_folders))
    names = tuple(sorted({p.parts[depth] for p in in_folders}))
    number = {name: i for i, name in enumerate(names)}
    return names, tuple(Entry(p.as_posix(), number[p.parts[depth]]) for p in in_folders)
