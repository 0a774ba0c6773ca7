"""``python src/prepare_data.py``: image files to a Hugging Face dataset or to tar shards."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unirae.app.config.schema.kinds import Count, OutputFolder, Share, Workers
from unirae.app.shell import cli
from unirae.app.shell.argument_names import PREPARING
from unirae.app.shell.options import Flag, command
from unirae.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Convert a folder or tar of images to a Hugging Face dataset for data=hf, or to tar shards for data=tar_shards.

    Class folders become labels; train/ and val/ folders become the splits; captions become a column `text`. The
    original encoded bytes are kept. A run that was interrupted continues when started again, and an output whose
    input has changed is made anew; OUTPUT/report.json says what was left out: unreadable images by name, other files
    by kind.
    """

    input: Path
    """Folder of images (CLASS/*.jpg, or train/CLASS and val/CLASS, or flat), or a tar of them."""
    output: OutputFolder
    """Folder to write; it appears when it is complete."""
    val_fraction: Share = 0.1
    """Share of the images held out for validation, where the input has no validation folder."""
    flat: Flag = False
    """Take all images without classes, in whatever folders they lie."""
    train_split: str | None = None
    """The folder of the training split, where its name does not say so; . where no folder is a split."""
    val_split: str | None = None
    """The folder of the validation split, where its name does not say so."""
    caption_columns: str | None = None
    """Columns of metadata files, or keys of NAME.json, that hold captions, with commas between; txt for NAME.txt; none
    to leave captions out. Default: all that are found (docs/data.md)."""
    format: Literal["hf", "tar"] = "hf"
    """hf: a Hugging Face dataset; tar: shards in WebDataset's layout, train/00000.tar and so on."""
    shard_images: Count = 1000
    """Images in each file of the output. An interrupt costs at most as many."""
    num_workers: Workers | None = None
    """Threads that check images. Default: one for each CPU core."""


def convert(options: Options) -> dict[str, Any]:
    """Convert with a progress bar and log the outcome; returns the report."""
    from unirae.app.shell.devices import progress_bar
    from unirae.core.log import get_logger
    from unirae.data.prepare import REPORT, prepare

    cli.configure_logging()
    with progress_bar("images") as progress:
        report = prepare(
            source=options.input,
            output=options.output,
            val_fraction=options.val_fraction,
            labels=not options.flat,
            train_split=options.train_split,
            val_split=options.val_split,
            caption_columns=_columns(options.caption_columns),
            shard_images=options.shard_images,
            format=options.format,
            num_workers=options.num_workers,
            progress=progress,
        )
    log = get_logger(__name__)
    splits = " and ".join(f"{count} {split}" for split, count in report["images"].items())
    classes = {0: "no classes", 1: "1 class"}.get(len(report["classes"]), f"{len(report['classes'])} classes")
    log.info("%s: %s images, %s", options.output, splits, classes)
    captions = report.get("captions", {"columns": [], "missing": {}})
    if captions["columns"]:
        missing = sum(captions["missing"].values())
        level = logging.WARNING if missing else logging.INFO
        log.log(level, "captions: %s; %d images have none", ", ".join(captions["columns"]), missing)
    if report["unreadable_count"]:
        where = options.output / REPORT
        log.warning("%d unreadable, left out and listed in %s", report["unreadable_count"], where)
    copies = report.get("copies", {"files": 0, "pictures_in_several_splits": 0})
    if copies["files"]:
        both = copies["pictures_in_several_splits"]
        log.warning(
            "files that equal another one byte for byte: %d; pictures that so stand in both splits: %d%s",
            *(copies["files"], both),
            ". Scores of held-out images then count training images, too; remove the copies" if both else "",
        )
    data = {"hf": "hf", "tar": "tar_shards"}[options.format]
    log.info("train on it with: data=%s data.data_dir=%s", data, options.output)
    return report


def _columns(given: str | None) -> list[str] | None:
    """The columns of captions that were named; None where they are to be found."""
    if given is None:
        return None
    names = [name.strip() for name in given.split(",")]
    if not all(names):
        raise ConfigError(f"--caption_columns {given!r}: give names with commas between, or none")
    return [] if names == ["none"] else names


main = command(
    Options,
    convert,
    kept="the shards that were finished stay: repeat the command to go on from here",
    names=PREPARING,
)
