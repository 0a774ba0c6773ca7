"""From image files to a Hugging Face ``save_to_disk`` folder, in shards that survive an interrupt.

Work happens in ``.NAME.partial`` beside the output. A shard is written to a temporary file and renamed, then
its record (rows, unreadable files) is; a second run keeps every shard that has a record. Only the complete
folder gets the output's name. Images keep their original encoded bytes.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.core.errors import ConfigError, DataError
from unirae.core.io import read_json, write_atomically, write_json
from unirae.core.log import get_logger
from unirae.data.archive import ImageFiles, open_images
from unirae.data.decode import BadImageError, read_rgb
from unirae.data.hf_writer import features_for, write_arrow, write_split_metadata
from unirae.data.listing import Entry, Listing, arrange

if TYPE_CHECKING:
    from datasets import Features

log = get_logger(__name__)

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

REPORT = "report.json"


@dataclass(frozen=True)
class Shard:
    """A run of files of one split that becomes one Arrow file."""

    folder: Path
    name: str
    entries: tuple[Entry, ...]

    @property
    def data(self) -> Path:
        """The Arrow file."""
        return self.folder / f"{self.name}.arrow"

    @property
    def record(self) -> Path:
        """Its existence says that the shard is complete."""
        return self.folder / f"{self.name}.json"


def prepare(
    *,
    source: Path,
    output: Path,
    val_fraction: float = 0.1,
    shard_images: int = 1000,
    num_workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Convert ``source`` (a folder or tar) to a DatasetDict in ``output``; continue where a run was cut.

    Returns:
        The report, also written to ``report.json``: counts, classes and unreadable files with the reason.

    Raises:
        DataError: there is nothing to convert, nothing is readable, or ``output`` is something else.
    """
    if shard_images < 1:
        raise ConfigError(f"shard_images={shard_images} must be at least 1")
    with open_images(source) as files:
        listing = arrange(files.paths, val_fraction=val_fraction, where=str(source))
        if not listing.train and val_fraction < 1:
            raise DataError(
                f"{source}: all of its images ({len(listing.val)}) would be held out for validation and none be left "
                f"to train on; give more images, or hold none out with --val_fraction 0"
            )
        plan = _plan_hash(listing, shard_images)
        if output.exists():
            return _finished(output, plan)
        work = _open_work_folder(output, plan)
        splits = _cut(_in_reading_order(listing, files), work, shard_images)
        _write_shards(files, splits, listing.class_names, num_workers or os.cpu_count() or 1, progress)
    report = _finish(work, splits, listing.class_names, plan)
    os.replace(work, output)
    return report


def _plan_hash(listing: Listing, shard_images: int) -> str:
    """What makes two runs the same conversion: files, classes, splits and shards."""
    parts = [[(e.path, e.label) for e in entries] for entries in (listing.train, listing.val)]
    text = json.dumps([listing.class_names, *parts, shard_images])
    return hashlib.sha256(text.encode()).hexdigest()


def _finished(output: Path, plan: str) -> dict[str, Any]:
    """The report of an output that is already complete."""
    report = read_json(output / REPORT) if (output / REPORT).is_file() else {}
    if report.get("plan_sha256") != plan:
        raise DataError(
            f"{output} exists and is not the result of this conversion: remove it or choose another name"
        )
    log.info("%s is already complete", output)
    return report


def _open_work_folder(output: Path, plan: str) -> Path:
    work = output.with_name(f".{output.name}.partial")
    plan_file = work / "plan.json"
    if plan_file.exists():
        if read_json(plan_file) != plan:
            raise DataError(
                f"{work} was begun with other files or options. Repeat those, or remove it to start anew."
            )
        log.info("continuing the conversion in %s", work)
    write_json(plan_file, plan)
    return work


def _in_reading_order(listing: Listing, files: ImageFiles) -> dict[str, list[Entry]]:
    """Entries of each split in the order that the input is read fastest."""
    position = {path: i for i, path in enumerate(files.paths)}
    splits = {"train": listing.train, "validation": listing.val}
    return {
        name: sorted(entries, key=lambda e: position[e.path]) for name, entries in splits.items() if entries
    }


def _cut(splits: dict[str, list[Entry]], work: Path, size: int) -> dict[str, list[Shard]]:
    shards: dict[str, list[Shard]] = {}
    for split, entries in splits.items():
        count = -(-len(entries) // size)
        shards[split] = [
            Shard(work / split, f"data-{i:05d}-of-{count:05d}", tuple(entries[i * size : (i + 1) * size]))
            for i in range(count)
        ]
    return shards


def _write_shards(
    files: ImageFiles,
    splits: dict[str, list[Shard]],
    class_names: tuple[str, ...],
    num_workers: int,
    progress: Progress,
) -> None:
    features = features_for(class_names)
    shards = [shard for of_split in splits.values() for shard in of_split]
    total, done = sum(len(shard.entries) for shard in shards), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    with ThreadPoolExecutor(num_workers) as pool:  # Pillow decodes without holding the interpreter's lock
        for shard in shards:
            if shard.record.exists():
                advance(len(shard.entries))
            else:
                _write_shard(files, shard, features, pool, advance)


def _write_shard(
    files: ImageFiles, shard: Shard, features: "Features", pool: Executor, advance: Callable[[int], None]
) -> None:
    """Read, check and store a shard's files; the record comes last."""
    contents = [_read(files, entry.path) for entry in shard.entries]
    problems = []
    for problem in pool.map(_problem, contents):
        problems.append(problem)
        advance(1)
    unreadable = [
        {"path": _printable(entry.path), "reason": problem}
        for entry, problem in zip(shard.entries, problems, strict=True)
        if problem
    ]
    rows = [
        {"image": {"bytes": content, "path": _printable(entry.path)}, "label": entry.label}
        for entry, content, problem in zip(shard.entries, contents, problems, strict=True)
        if not problem
    ]
    if rows:
        write_atomically(shard.data, partial(write_arrow, rows=rows, features=features))
    write_json(shard.record, {"rows": len(rows), "unreadable": unreadable})


def _read(files: ImageFiles, path: str) -> bytes | Exception:
    try:
        return files.read(path)
    except (OSError, EOFError, tarfile.TarError) as error:
        return error


def _printable(path: str) -> str:
    """A path as text; bytes of a file name that are not UTF-8 become question marks."""
    return path.encode(errors="replace").decode()


def _problem(content: bytes | Exception) -> str | None:
    """Why a file is not a readable image; None if it is one."""
    if isinstance(content, Exception):
        return f"{type(content).__name__}: {content}"
    try:
        read_rgb(content)
    except BadImageError as error:
        return str(error)
    return None


def _finish(
    work: Path, splits: dict[str, list[Shard]], class_names: tuple[str, ...], plan: str
) -> dict[str, Any]:
    """Write what makes the folder a DatasetDict, and the report; remove the traces of the work."""
    records = {split: [read_json(shard.record) for shard in shards] for split, shards in splits.items()}
    counts = {split: sum(record["rows"] for record in of_split) for split, of_split in records.items()}
    unreadable = [bad for of_split in records.values() for record in of_split for bad in record["unreadable"]]
    empty = [split for split, count in counts.items() if count == 0]
    if empty:
        raise DataError(
            f"no readable image for {' and '.join(empty)}: {unreadable[0]['path']} is {unreadable[0]['reason']}, "
            f"and so on ({len(unreadable)} in all; {work} has the records)"
        )
    for split, shards in splits.items():
        fingerprint = hashlib.sha256(f"{plan}/{split}".encode()).hexdigest()[:16]
        used = [
            shard.data.name for shard, record in zip(shards, records[split], strict=True) if record["rows"]
        ]
        write_split_metadata(work / split, split, used, fingerprint, features_for(class_names))
    write_json(work / "dataset_dict.json", {"splits": list(splits)})
    report = {
        "plan_sha256": plan,
        "images": counts,
        "classes": list(class_names),
        "unreadable_count": len(unreadable),
        "unreadable": unreadable,
    }
    write_json(work / REPORT, report)
    for leftover in [*work.rglob(".*.tmp"), *(s.record for shards in splits.values() for s in shards)]:
        leftover.unlink(missing_ok=True)
    (work / "plan.json").unlink(missing_ok=True)
    return report
