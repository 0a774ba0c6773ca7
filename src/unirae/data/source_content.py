"""The identity of a source's images, for everything that is computed from pictures and kept.

Names and counts do not show that pictures were changed in place. So the files are looked at: small data are read whole;
of large data the sizes and times of all files count, and blocks of some of them are read. What that costs, and what it
cannot see, is in docs/data.md; ``data.verify_contents=true`` reads every byte. Times tell one machine that something
may have changed; they are no part of what is recorded, since another machine's copy has others.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unirae.data.source import Source

WHOLE_FILES = 5000
WHOLE_BYTES = 256 * 2**20
"""Data of so many files and bytes at most are read whole: a second on a local disk."""
_SAMPLED_FILES = 1000
_BLOCK_BYTES = 16 * 2**10
_BYTES_PER_BLOCK = 16 * 2**20
_MOST_BLOCKS = 64

_WORDS = {
    "source": "the kind of the data",
    "count": "the number of images",
    "names_sha256": "the names of the files",
    "labels_sha256": "the classes or labels",
    "sizes_sha256": "the sizes of the files",
    "bytes_sha256": "the contents of the images",
    "times_sha256": "the times of the files",
    "bytes_read": "how much of the files was read",
    "missing": "which files are missing",
    "hf_fingerprint": "the data set's own fingerprint",
    "captioned_alone": "the number of images with captions",
    "captioned_sha256": "which images have captions",
    "sha256": "the contents of the images",
    "photos_sha256": "the contents of the images",
}

File = tuple[str, Path]
"""A name that does not depend on where the data lie, and the file."""


def content_of_files(files: Sequence[File], *, whole: bool = False) -> dict[str, Any]:
    """The identity of files; one that is missing or cannot be read counts as such.

    Args:
        whole: read every byte, however many there are.

    Returns:
        Hashes of sizes and of bytes, and of times unless all bytes were read.
    """
    found = [(name, path, _stat(path)) for name, path in files]
    sizes = [stat.st_size if stat else 0 for *_, stat in found]
    whole = whole or (len(files) <= WHOLE_FILES and sum(sizes) <= WHOLE_BYTES)
    chosen = files
    if not whole:  # some, chosen by a hash of their names
        by_hash = sorted(files, key=lambda file: hashlib.sha256(_encoded(file[0])).digest())
        chosen = by_hash[:_SAMPLED_FILES]
    content: dict[str, Any] = {
        "sizes_sha256": _hash_of(f"{name}|{stat.st_size if stat else 'missing'}" for name, _, stat in found),
        "bytes_sha256": _hash_of(_bytes_sha256(path, whole=whole) for _, path in chosen),
        "bytes_read": "all" if whole else "a sample",
    }
    if not whole:
        content["times_sha256"] = _hash_of(
            f"{name}|{stat.st_mtime_ns if stat else 'missing'}" for name, _, stat in found
        )
    missing = [name for name, _, stat in found if stat is None]
    return {**content, "missing": len(missing)} if missing else content


def labels_sha256(class_names: Sequence[str], labels: Iterable[int]) -> str:
    """Hash of the class names and of every picture's class."""
    return hashlib.sha256(json.dumps([list(class_names), list(labels)]).encode()).hexdigest()


def content_of(source: Source, *, anew: bool = False) -> dict[str, Any]:
    """Content of a source, wherever it lies; results that are kept are named by it.

    Args:
        anew: look at the files again; else what the source saw when it was first asked will do.
    """
    return without_paths(source.content(anew=anew))


def recorded(source: Source) -> dict[str, Any]:
    """Identity of the data for results: where they lay, and what they hold as far as another machine can tell."""
    return {**source.fingerprint, **without_times(source.content())}


def without_paths(record: Any) -> Any:
    """A record of data without the paths."""
    return _without(record, ("path",))


def without_times(record: Any) -> Any:
    """A record of data without the times of their files."""
    return _without(record, ("times_sha256",))


def changes(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Differences between two contents, in words; also what was not recorded and so may be different.

    What is recorded there alone is of an older way to know the same.
    """
    there, here = without_paths(there), without_paths(here)
    found = []
    for key in [*here, *(key for key in ("missing", "times_sha256") if key in there and key not in here)]:
        if there.get(key) == here.get(key):
            continue
        word = _WORDS.get(key, key)
        if key not in there and key != "missing":
            found.append(f"{word} (not recorded there)")
        elif isinstance(here.get(key), str) and key.endswith(("sha256", "fingerprint")):
            found.append(word)
        else:
            found.append(f"{word} ({there.get(key, 'none')} there, {here.get(key, 'none')} here)")
    return found


def _without(record: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(record, dict):
        return record
    return {key: _without(value, keys) for key, value in record.items() if key not in keys}


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:  # a link to nowhere, or a file that went since it was listed
        return None


def _bytes_sha256(path: Path, *, whole: bool) -> str:
    """Hash of a file's bytes, or of blocks spread over it from its first byte to its last."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            blocks = min(_MOST_BLOCKS, max(3, size // _BYTES_PER_BLOCK))
            if whole or size <= blocks * _BLOCK_BYTES:
                return hashlib.file_digest(file, "sha256").hexdigest()
            digest = hashlib.sha256()
            for number in range(blocks):
                file.seek((size - _BLOCK_BYTES) * number // (blocks - 1))
                digest.update(file.read(_BLOCK_BYTES))
            return digest.hexdigest()
    except OSError as error:
        return type(error).__name__


def _hash_of(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(_encoded(line) + b"\n")
    return digest.hexdigest()


def _encoded(text: str) -> bytes:
    """File names need not be valid text: Python carries their odd bytes as surrogates."""
    return text.encode(errors="surrogateescape")
