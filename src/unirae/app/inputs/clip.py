"""The options of clip_score: the CLIP, and the prompts of images that lie in files.

A command that makes images from prompts takes :class:`ClipOptions` alone and gives its prompts to :func:`of_prompts`.
"""

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.core.errors import ConfigError, DataError
from unirae.core.names import count_of

if TYPE_CHECKING:
    from unirae.data.stored import StoredImages

_NO_LINES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
"""Files of prompts whose lines are no prompts."""


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """The network of clip_score."""

    clip: str | None = None
    """CLIP of the score clip_score: a hub name, or a folder in transformers' format with processor and tokenizer.
    Default: openai/clip-vit-large-patch14."""


@dataclass(frozen=True, kw_only=True)
class StoredPromptOptions(ClipOptions):
    """The network of clip_score, and the prompts of images that lie in files."""

    prompts: Path | None = None
    """Text file with the prompts of clip_score, one a line in the order of the images; an empty line is an image
    without one. Default: the captions of the images' own folder or data set."""


def of_prompts(
    options: ClipOptions,
    names: Sequence[str],
    prompts: Callable[[], Sequence[str]],
    *,
    reads: Sequence[str] = ("clip",),
) -> dict[str, Any]:
    """The arguments of ``MetricSources`` for clip_score.

    Args:
        prompts: gives those of the images in their order, and is called where they are needed.
        reads: names of the options that nothing else reads.

    Raises:
        ConfigError: If an option is given without the score.
    """
    from unirae.metrics.clip_score import CLIP_SCORE

    if CLIP_SCORE in names:
        return {"clip_weights": options.clip, "prompts": prompts()}
    given = [f"--{name}" for name in reads if getattr(options, name) is not None]
    if given:
        raise ConfigError(
            f"{', '.join(given)}: only --metrics {CLIP_SCORE} reads it; ask for {CLIP_SCORE}, too"
        )
    return {}


def clip_sources(
    options: StoredPromptOptions, names: Sequence[str], images: "StoredImages", chosen: Sequence[int]
) -> dict[str, Any]:
    """The arguments of ``MetricSources`` for clip_score of images that lie in files.

    Args:
        chosen: numbers of the images that are scored, in their order.

    Raises:
        ConfigError: If an option is given without the score.
        DataError: If no image has a prompt, or the file of prompts is damaged or of another number of images.
    """

    def prompts() -> list[str]:
        return (
            _captions(images, chosen) if options.prompts is None else _lines(options.prompts, images, chosen)
        )

    return of_prompts(options, names, prompts, reads=("clip", "prompts"))


def _captions(images: "StoredImages", chosen: Sequence[int]) -> list[str]:
    """Of each image the first of its captions that says something."""
    found = [
        next((caption for caption in images.source.captions_of(number) if caption.strip()), "")
        for number in chosen
    ]
    if not any(found):
        counted = count_of(len(found), "image")
        raise DataError(
            f"--metrics clip_score: none of the {counted} of {images.source.name} has a caption; give their prompts as "
            "--prompts FILE, one a line in the order of the images (docs/data.md says where captions are "
            "looked for)"
        )
    return found


def _lines(file: Path, images: "StoredImages", chosen: Sequence[int]) -> list[str]:
    """Of each image its line."""
    lines = _read_lines(file)
    if len(lines) != len(images):
        raise DataError(
            f"--prompts {file} has {count_of(len(lines), 'line')}, and there are {count_of(len(images), 'image')}; it "
            "has one line for each, in their order, an empty one where there is no prompt"
        )
    place = {number: line for line, number in enumerate(_order(images))}
    found = [lines[place[number]] for number in chosen]
    if not any(map(str.strip, found)):
        raise DataError(
            f"--prompts {file}: the lines of the {count_of(len(found), 'image')} are empty; give a prompt a line"
        )
    return found


def _read_lines(file: Path) -> list[str]:
    """Lines of a text file in UTF-8; other characters that some programs take for line ends stay in them."""
    if file.suffix.lower() in _NO_LINES:
        raise ConfigError(
            f"--prompts {file}: a text file with one prompt a line is expected, not {file.suffix}; captions beside "
            "images need no option (docs/data.md)"
        )
    if not file.is_file():
        raise DataError(f"--prompts {file}: there is no such file")
    content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"--prompts {file}, line {line}: it is not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        raise DataError(f"--prompts {file} holds zero bytes and is no text in UTF-8; save the file as UTF-8")
    lines = text.replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _order(images: "StoredImages") -> list[int]:
    """Numbers of the images in the order that a list of prompts has.

    A folder is read in the order of its names as text, where ``10.png`` stands before ``2.png``; a list of prompts then
    goes by the numbers. Other sources have an order of their own.
    """
    from unirae.evaluation.passes.image_pairs import by_number

    as_read = list(range(len(images)))
    names = [images.stem_of(number) or "" for number in as_read]
    if images.source.name != "image_folder" or sorted(names, key=_parts) == names:
        return as_read
    try:
        return by_number(names)
    except DataError:
        raise DataError(
            f"--prompts: {names[0]}, {names[1]} and the other names of the images stand in another order by their "
            "numbers than as text, so it is not certain which line belongs to which image; name the files by their "
            "numbers alone, all of one width as 000.png, 001.png, …"
        ) from None


def _parts(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts the numbers within a name by value."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split("([0-9]+)", name)]
