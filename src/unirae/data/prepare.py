"""Conversion of image files to a Hugging Face ``save_to_disk`` folder or to tar shards, surviving an interrupt.

Work happens in ``.NAME.partial`` beside the output. A shard is written to a temporary file and renamed, then its
record is (:mod:`unirae.data.prepared_shards`); a second run keeps every shard whose files are what its record says.
Only the complete folder gets the output's name. Images keep their original encoded bytes. The records stay in the
output: by them a later run sees whether the input has changed, and converts it anew.
"""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, DataError, UserError
from unirae.core.file_lock import locked
from unirae.core.io import read_json, write_json
from unirae.core.log import get_logger
from unirae.core.names import count_of, on_one_line, printable
from unirae.data.archive import ImageFiles, open_images
from unirae.data.listing import Listing, arrange, say_classes, say_left_out
from unirae.data.prepared_captions import PreparedCaptions, captions_to_prepare
from unirae.data.prepared_hf import HFFormat
from unirae.data.prepared_report import report_of, rows_by_split, unreadable_files
from unirae.data.prepared_shards import INPUTS, Format, Progress, Shard, ShardRecord, cut, write_shards
from unirae.data.prepared_tar import TarFormat

log = get_logger(__name__)

REPORT = "report.json"
_PLAN = "plan.json"
FORMATS: dict[str, Format] = {layout.name: layout for layout in (HFFormat(), TarFormat())}


@dataclass(frozen=True, kw_only=True)
class _Conversion:
    """An input, the options of :func:`~unirae.data.listing.arrange`, the columns of captions (None for all that are
    found), the images of a shard, the place of the output."""

    source: Path
    arrangement: dict[str, Any]
    caption_columns: Sequence[str] | None
    shard_images: int
    output: Path
    layout: Format

    @property
    def plan(self) -> dict[str, Any]:
        """The settings that make two runs the same conversion, if the files do not change."""
        options = {**self.arrangement, "shard_images": self.shard_images}
        if self.caption_columns is not None:  # else as versions that knew no captions wrote it
            options["caption_columns"] = list(self.caption_columns)
        if self.layout.name != "hf":  # else as versions that knew one format wrote it
            options["format"] = self.layout.name
        return {"source": printable(str(self.source.resolve())), "options": options}

    def beside(self, kind: str) -> Path:
        """A path beside the output, for something that belongs to it."""
        return self.output.with_name(f".{self.output.name}.{kind}")


def prepare(
    *,
    source: Path,
    output: Path,
    val_fraction: float = 0.1,
    labels: bool = True,
    train_split: str | None = None,
    val_split: str | None = None,
    caption_columns: Sequence[str] | None = None,
    shard_images: int = 1000,
    format: Literal["hf", "tar"] = "hf",
    num_workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Convert ``source`` (a folder or tar) to ``output``, a DatasetDict or tar shards; continue where a run was cut.

    An output of the same conversion whose files have changed since is made anew and then replaced. ``val_fraction``,
    ``labels`` and the splits are those of :func:`~unirae.data.listing.arrange`; ``shard_images`` are in one file.
    ``caption_columns`` are those of :func:`~unirae.data.prepared_captions.captions_to_prepare`.

    Returns:
        The report, also written to ``report.json``: counts, classes, captions, copies, unreadable files with the
        reason, and what was left out.

    Raises:
        ConfigError: If ``shard_images``, ``val_fraction`` or ``caption_columns`` cannot be.
        DataError: If there is nothing to convert, nothing of a split is readable, captions cannot be told or read, or
            ``output`` is something else.
        UserError: If another process writes the same output, or the disk refuses.
    """
    if shard_images < 1:
        raise ConfigError(f"shard_images={shard_images} must be at least 1")
    splits = {"train_split": train_split, "val_split": val_split}
    arrangement = {"val_fraction": val_fraction, "labels": labels, **splits}
    conversion = _Conversion(
        source=source,
        arrangement=arrangement,
        caption_columns=caption_columns,
        shard_images=shard_images,
        output=output,
        layout=FORMATS[format],
    )
    with open_images(source) as files:
        captions = PreparedCaptions()
        if files.paths:
            captions = captions_to_prepare(files, where=str(source), wanted=caption_columns)
        listing = _list(files, conversion)
        complete = _complete_report(conversion, listing, files, captions)
        if complete is not None:
            return complete
        busy = f"another process is writing {output}; wait for it, or choose another name"
        with locked(conversion.beside("lock"), busy=busy):
            workers = num_workers or os.cpu_count() or 1
            return _convert(conversion, listing, files, captions, workers, progress)


def _list(files: ImageFiles, conversion: _Conversion) -> Listing:
    """List the input's classes and splits; the log says what is taken and what is not."""
    source = conversion.source
    say_left_out(str(source), files.left_out)
    if not files.paths and files.left_out.summary():
        raise DataError(f"{source} holds no images that are read; it has {files.left_out.summary()}")
    listing = arrange(files.paths, where=str(source), **conversion.arrangement)
    say_classes(str(source), listing.class_names)
    if not listing.train and conversion.arrangement["val_fraction"] < 1:
        raise DataError(
            f"{source}: all of its images ({len(listing.val)}) would be held out for validation and none be left "
            f"to train on; give more images, or hold none out with {argument('prepare.val_fraction', 0)}"
        )
    return listing


def _complete_report(
    conversion: _Conversion, listing: Listing, files: ImageFiles, captions: PreparedCaptions
) -> dict[str, Any] | None:
    """The report of an output that is complete and current; None where the output is to be made (anew).

    Raises:
        DataError: If the output is there and is not the result of this conversion.
    """
    output = conversion.output
    if not output.exists():
        return None
    report = read_json(output / REPORT) if (output / REPORT).is_file() else {}
    report = report if isinstance(report, dict) else {}
    remedy = "remove it or choose another name"
    if "plan_sha256" in report:
        raise DataError(
            f"{output} was made by an earlier version, which did not record what the files were, so that changes "
            f"cannot be seen: {remedy}"
        )
    if report.get("options") != conversion.plan["options"]:
        raise DataError(f"{output} exists and is not the result of this conversion: {remedy}")
    changes = _changes(output, listing, files, captions)
    if not changes:
        log.info("%s is already complete", output)
        return report
    if report.get("source") != conversion.plan["source"]:
        raise DataError(f"{output} exists and holds other files, of {report.get('source')}: {remedy}")
    log.warning("%s: of %s, %s since it was made: converting anew", output, conversion.source, changes)
    return None


def _changes(output: Path, listing: Listing, files: ImageFiles, captions: PreparedCaptions) -> str:
    """Count in words the files of the input that are not those of the output; empty where all are."""
    now = {
        entry.path: _class_of(listing.class_names, entry.label) for entry in (*listing.train, *listing.val)
    }
    listed, count = set(now), Counter[str]()
    for path in sorted((output / INPUTS).glob("*.json")):
        record = ShardRecord.read(path)
        if record is None:
            continue
        stamps = [file.stamp for file in record.files]
        for file in record.files:
            same = now.pop(file.path, None) == _class_of(record.class_names, file.label)
            if file.path not in listed:
                count["are gone"] += 1
            elif not same or not file.still_holds(files):
                readable = same and file.problem and files.stamp(file.path) == file.stamp
                count["have become readable" if readable else "have changed"] += 1
            elif captions.sha256(file.path) != file.captions_sha256:
                count["have other captions"] += 1
        if stamps != [file.stamp for file in record.files]:
            with suppress(UserError):  # equal contents with other times: spares reading them again
                record.write(path)
    count["are new"] = len(now)
    of_one = {"are": "is", "have": "has"}
    return ", ".join(
        count_of(number, f"file {of_one[verb]} {what}", f"files {verb} {what}")
        for (verb, what), number in ((key.split(" ", 1), number) for key, number in count.items() if number)
    )


def _class_of(class_names: Any, label: int) -> str:
    return class_names[label] if label >= 0 else ""


def _convert(
    conversion: _Conversion,
    listing: Listing,
    files: ImageFiles,
    captions: PreparedCaptions,
    num_workers: int,
    progress: Progress,
) -> dict[str, Any]:
    """Write the shards and their index, then give the folder its name."""
    output, replaced = conversion.output, conversion.beside("replaced")
    if replaced.exists() and not output.exists():  # killed while one took the other's place
        os.rename(replaced, output)
    shutil.rmtree(replaced, ignore_errors=True)
    if output.exists():  # perhaps by a process that has just ended
        complete = _complete_report(conversion, listing, files, captions)
        if complete is not None:
            return complete
    work = _open_work_folder(conversion)
    layout = conversion.layout
    shards = cut(_in_reading_order(listing, files, layout), work, conversion.shard_images, layout)
    names = listing.class_names
    write_shards(files, shards, names, captions, layout, num_workers=num_workers, progress=progress)
    report = _finish(conversion, work, shards, listing, files, captions)
    if output.exists():
        os.rename(output, replaced)
    os.rename(work, output)
    shutil.rmtree(replaced, ignore_errors=True)
    return report


def _open_work_folder(conversion: _Conversion) -> Path:
    work = conversion.beside("partial")
    plan_file = work / _PLAN
    if plan_file.exists():
        if read_json(plan_file) != conversion.plan:
            raise DataError(
                f"{work} was begun with other files or options. Repeat those, or remove it to start anew."
            )
        log.info("continuing the conversion in %s", work)
    write_json(plan_file, conversion.plan)
    return work


def _in_reading_order(listing: Listing, files: ImageFiles, layout: Format) -> dict[str, list[Any]]:
    """Entries of each split in the order that the input is read fastest."""
    position = {path: i for i, path in enumerate(files.paths)}
    splits = dict(zip(layout.splits, (listing.train, listing.val), strict=True))
    return {
        name: sorted(entries, key=lambda e: position[e.path]) for name, entries in splits.items() if entries
    }


def _finish(
    conversion: _Conversion,
    work: Path,
    shards: list[Shard],
    listing: Listing,
    files: ImageFiles,
    captions: PreparedCaptions,
) -> dict[str, Any]:
    """Write what belongs to the folder as a whole, and the report; remove the traces of the work."""
    records = {shard: _written(shard) for shard in shards}
    counts = rows_by_split(records)
    empty = [split for split, count in counts.items() if count == 0]
    if empty:
        unreadable = unreadable_files(records)
        raise DataError(
            f"no readable image for {' and '.join(empty)}: {on_one_line(unreadable[0]['path'])} is "
            f"{unreadable[0]['reason']}, and so on ({len(unreadable)} in all; {work} has the records)"
        )
    conversion.layout.finish(work, records=records, class_names=listing.class_names, captions=captions)
    report = {**conversion.plan, **report_of(records, listing, files, captions)}
    write_json(work / REPORT, report)
    _remove_leftovers(work, shards, conversion.layout)
    return report


def _written(shard: Shard) -> ShardRecord:
    record = ShardRecord.read(shard.record)
    assert record is not None
    return record


def _remove_leftovers(work: Path, shards: list[Shard], layout: Format) -> None:
    """Remove temporary files of a kill, shards that were cut otherwise, and the plan."""
    ours = {path for shard in shards for path in (shard.data, shard.record)}
    for pattern in (f"*/*{layout.suffix}", f"{INPUTS}/*.json", "**/.*.tmp"):
        for path in set(work.glob(pattern)) - ours:
            path.unlink(missing_ok=True)
    for split in set(layout.splits) - {shard.split for shard in shards}:
        shutil.rmtree(work / split, ignore_errors=True)
    (work / _PLAN).unlink(missing_ok=True)
