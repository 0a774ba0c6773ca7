"""The tars that a path or a pattern means, and which of them are for training and which for validation."""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from unirae.core.errors import DataError
from unirae.core.log import get_logger, log_once
from unirae.core.names import count_of, first_of, on_one_line
from unirae.data.file_kinds import FileKinds, LeftOut
from unirae.data.listing import say_left_out, walk
from unirae.data.split_folders import ROOT, choose_splits, same_split, split_word
from unirae.data.tar_index import Shard, refuse_compressed
from unirae.data.tar_members import BLOCK, DamagedTarError, TarReader, members

log = get_logger(__name__)

EXPECTED_SHARDS = "expected a folder of .tar files, one .tar, or a pattern such as shard-{000000..000418}.tar"
_COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|lzma)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_SHARDS = 10**6


def find_shards(where: str) -> list[Shard]:
    """The tars that ``where`` means, in the natural order of their names; logs what lies beside them.

    Raises:
        DataError: If there are none, if one of a pattern is missing, or if there are compressed ones.
    """
    path = Path(where).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        if not path.is_file():  # reading a pipe would never end
            raise DataError(f"{where} is neither a folder nor a file; {EXPECTED_SHARDS}")
        _refuse_compressed([path.name], path.parent)
        _refuse_no_tar(path)
        return [Shard(path.name, path)]
    if _BRACES.search(where):
        return _of_pattern(str(path))
    raise DataError(f"{where} does not exist; {EXPECTED_SHARDS}")


def holds_shards(path: Path) -> bool:
    """Say whether a path is a tar, or a folder with tars in it and no pictures beside them."""
    if not path.is_dir():
        return path.suffix.lower() == ".tar" and path.is_file()
    found, kinds = False, FileKinds()
    try:
        for name in walk(path, LeftOut(), kinds):
            if kinds.of(name) is None:
                return False
            found = found or name.lower().endswith(".tar")
    except OSError:
        return False
    return found


def expand_braces(pattern: str) -> Iterator[str]:
    """The names that a pattern means: ``{000..041}`` counts with leading zeros, ``{a,b}`` lists."""
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    inside, ends = found[1], _RANGE.fullmatch(found[1])
    if ends is not None:
        first, last = int(ends[1]), int(ends[2])
        width = max(len(ends[1]), len(ends[2])) if "0" in (ends[1][0], ends[2][0]) else 0
        choices: Iterator[str] | list[str] = (f"{i:0{width}d}" for i in range(first, last + 1))
    elif "," in inside:
        choices = inside.split(",")
    else:
        raise DataError(f"{pattern}: {{{inside}}} is no pattern; write {{000000..000418}} or {{a,b}}")
    for choice in choices:
        yield from expand_braces(pattern[: found.start()] + choice + pattern[found.end() :])


def split_shards(
    shards: Sequence[Shard], *, train: str | None, val: str | None, where: str
) -> tuple[list[Shard], list[Shard] | None]:
    """The shards for training, and those for validation; None where a part must be held out.

    Splits are folders, or words in the names of the shards: ``imagenet-train-0001.tar``.

    Args:
        train: the user's choice of a folder or word; "." for all shards; None to find it. Likewise ``val``.

    Raises:
        DataError: If a chosen split is not there, or the same is chosen for both.
        UnclearSplitsError: If it cannot be told which folders are splits.
    """
    if train == ROOT and val is None:
        return list(shards), None
    if train is not None and train == val:
        raise DataError(same_split(where, train))
    wanted = {name for name in (train, val) if name is not None}
    seen: list[str] = []
    for part_of in (_by_folder(shards), _by_name):
        parts = {shard: part_of(shard) for shard in shards}
        counts = Counter(part for part in parts.values() if part)
        seen += sorted(counts)
        if not wanted <= set(counts) or not counts:
            continue
        chosen_train, chosen_val = choose_splits(counts, train=train, val=val, where=where)
        if chosen_train is not None:
            return _chosen(parts, chosen_train, chosen_val, where)
    if wanted:
        raise DataError(
            f"{on_one_line(where)} has no shards of {first_of(sorted(wanted - set(seen)) or sorted(wanted))}; it has "
            f"{first_of(list(dict.fromkeys(seen)), most=12)}"
        )
    return list(shards), None


def _chosen(
    parts: dict[Shard, str], train: str, val: str | None, where: str
) -> tuple[list[Shard], list[Shard] | None]:
    of_train = [shard for shard, part in parts.items() if part == train]
    of_val = [shard for shard, part in parts.items() if part == val] if val is not None else None
    others = Counter(part or "shards beside" for part in parts.values() if part not in (train, val))
    beside = ", ".join(
        f"{on_one_line(part)} ({count_of(n, 'shard')})" for part, n in sorted(others.items())[:6]
    )
    line = f"{on_one_line(where)}: trains on {on_one_line(train)}"
    line += f", validates on {on_one_line(val)}" if val is not None else ""
    log_once(
        log, logging.WARNING if others else logging.INFO, line + (f"; left out {beside}" if others else "")
    )
    return of_train, of_val


def _by_folder(shards: Sequence[Shard]) -> Callable[[Shard], str]:
    """The folder that a shard lies in, below the folders that wrap all of them."""
    folders = [PurePosixPath(shard.name).parts[:-1] for shard in shards]
    depth = 0
    while all(len(parts) > depth + 1 for parts in folders) and len({parts[depth] for parts in folders}) == 1:
        depth += 1
    return lambda shard: (PurePosixPath(shard.name).parts[:-1][depth : depth + 1] or ("",))[0]


def _by_name(shard: Shard) -> str:
    """The word for a split that a shard's name holds, else its name without the numbers at its end."""
    stem = PurePosixPath(shard.name).name
    stem = stem[: -len(".tar")] if stem.lower().endswith(".tar") else stem
    return split_word(stem) or re.sub(r"[\W_]*\d+([\W_]*(of[\W_]*)?\d+)*$", "", stem)


def _in_folder(folder: Path) -> list[Shard]:
    left_out, kinds = LeftOut(), FileKinds()
    names, compressed = [], []
    try:
        for name in walk(folder, left_out, kinds):
            if name.lower().endswith(".tar"):
                names.append(name)
            elif _COMPRESSED.search(name):
                compressed.append(name)
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}. Check its permissions.") from error
    here = set(names)
    _refuse_compressed([name for name in compressed if _COMPRESSED.sub(".tar", name) not in here], folder)
    say_left_out(str(folder), left_out)
    if not names:
        raise DataError(f"{folder} holds no .tar files; {EXPECTED_SHARDS}")
    return [Shard(name, folder / name) for name in sorted(names, key=_natural)]


def _of_pattern(pattern: str) -> list[Shard]:
    """The shards of a pattern, named below the folder in front of the first brace."""
    root = Path(pattern[: pattern.index("{")] + "x").parent
    paths: list[Path] = []
    for name in expand_braces(pattern):
        paths.append(Path(name))
        if len(paths) > _MOST_SHARDS:
            raise DataError(f"{pattern} means more than {_MOST_SHARDS:,} shards; {EXPECTED_SHARDS}")
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise DataError(
            f"{pattern}: {len(missing)} of its {len(paths)} shards do not exist: {first_of(missing)}. Copy them, or "
            "give a pattern of those that are there"
        )
    _refuse_compressed([path.name for path in paths], root)
    if len(set(paths)) < len(paths):
        raise DataError(f"{pattern} means some shards twice; write every one once")
    shards = [Shard(os.path.relpath(path, root), path) for path in paths]
    return sorted(shards, key=lambda shard: _natural(shard.name))


def _refuse_compressed(names: Sequence[str], folder: Path) -> None:
    compressed = [name for name in names if _COMPRESSED.search(name)]
    if compressed:
        raise DataError(
            f"{folder} holds {count_of(len(compressed), 'compressed tar')} ({first_of(compressed)}), in which no "
            "picture can be had by number; decompress each once (gzip -d; JPEG and PNG files hardly become larger) and "
            "give the .tar"
        )


def _refuse_no_tar(path: Path) -> None:
    """Refuse a file that does not begin as tars do, before anything is written beside it."""
    try:
        with open(path, "rb") as file:
            start = file.read(BLOCK)
            refuse_compressed(path, start)
            next(members(TarReader(file.fileno()), path.stat().st_size), None)
    except DamagedTarError as damage:
        if damage.member is None:
            raise DataError(f"{path}: {damage}; {EXPECTED_SHARDS}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key by which ``shard-2`` comes before ``shard-10``."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return [*((0, int(digits), digits) if digits else (1, 0, text) for digits, text in parts)]
