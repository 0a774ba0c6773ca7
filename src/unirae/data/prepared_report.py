"""The report of a conversion by ``prepare_data``: what was taken, what was not, and why."""

from collections.abc import Mapping
from typing import Any

from unirae.core.names import printable
from unirae.data.archive import ImageFiles
from unirae.data.listing import Listing
from unirae.data.prepared_captions import PreparedCaptions
from unirae.data.prepared_shards import Shard, ShardRecord

Records = Mapping[Shard, ShardRecord]


def report_of(
    records: Records, listing: Listing, files: ImageFiles, captions: PreparedCaptions
) -> dict[str, Any]:
    """Counts, classes, captions, copies, unreadable files with the reason, and what was left out; ready for JSON."""
    unreadable = unreadable_files(records)
    return {
        "images": rows_by_split(records),
        "classes": list(listing.class_names),
        "captions": {"columns": list(captions.columns), "missing": _without_captions(records, captions)},
        "copies": _copies(records),
        "unreadable_count": len(unreadable),
        "unreadable": unreadable,
        "left_out": {
            **files.left_out.record(),
            "images_outside_of_folders": [printable(path) for path in listing.strays],
            "images_in_other_folders": {
                printable(name): n for name, n in sorted(listing.other_folders.items())
            },
        },
    }


def rows_by_split(records: Records) -> dict[str, int]:
    """Number of readable images of each split."""
    counts: dict[str, int] = {}
    for shard, record in records.items():
        counts[shard.split] = counts.get(shard.split, 0) + record.rows
    return counts


def unreadable_files(records: Records) -> list[dict[str, str]]:
    """The files that are no readable images, and why."""
    return [
        {"path": printable(file.path), "reason": file.problem}
        for record in records.values()
        for file in record.files
        if file.problem is not None
    ]


def _without_captions(records: Records, captions: PreparedCaptions) -> dict[str, int]:
    """Number of readable images of each split that have no caption; empty where no image has one."""
    if not captions.columns:
        return {}
    missing = dict.fromkeys((shard.split for shard in records), 0)
    for shard, record in records.items():
        missing[shard.split] += sum(
            file.problem is None and file.captions_sha256 is None for file in record.files
        )
    return missing


def _copies(records: Records) -> dict[str, int]:
    """Count the files that equal another one byte for byte, and the pictures that so stand in more than one split."""
    splits: dict[str, list[str]] = {}
    for shard, record in records.items():
        for file in record.files:
            if file.problem is None and file.sha256 is not None:
                splits.setdefault(file.sha256, []).append(shard.split)
    return {
        "files": sum(len(found) - 1 for found in splits.values()),
        "pictures_in_several_splits": sum(len(set(found)) > 1 for found in splits.values()),
    }
