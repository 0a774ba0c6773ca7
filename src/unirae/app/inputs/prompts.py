"""Prompts and the files that hold them: one a line, JSON Lines, tables, a folder of text files."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unirae.app.config.schema.kinds import Mismatch, NotNegative, Seed, describe, read
from unirae.core.differences import shortened
from unirae.core.errors import DataError

_TEXT = ("prompt", "text", "caption")
_SCALE = ("cfg_scale", "guidance", "guidance_scale")
_NAME = ("name", "id", "item_id")
_READ = {"negative_prompt", "seed", *_SCALE}
_LARGEST_BYTES = 2**29
"""Bytes of a file above which it is no list of prompts, but one of weights or pictures."""
_KINDS = ".txt with a prompt on each line, .jsonl, .csv or .tsv, or a folder of .txt files"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text to make a picture of; None stands for what the command's options say.

    Attributes:
        negative: the text that guidance leads away from.
        seed: the seed of the noise of this prompt's pictures.
        about: further fields of its line, JSON-able.
        name: the name of its file, without the ending, or that its line gives.
        line: the JSON object as it stood in the file; "" where the prompt came otherwise.
    """

    text: str
    negative: str | None = None
    seed: int | None = None
    cfg_scale: float | None = None
    about: dict[str, Any] = field(default_factory=dict, hash=False)
    name: str | None = None
    line: str = field(default="", compare=False, repr=False)

    def record(self) -> dict[str, Any]:
        """The prompt as an object of a JSONL file; read again it is the same prompt."""
        own = {
            "prompt": self.text,
            "negative_prompt": self.negative,
            "seed": self.seed,
            "cfg_scale": self.cfg_scale,
            "name": self.name,
        }
        return {**{key: value for key, value in own.items() if value is not None}, **self.about}


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read the prompts of a file or a folder, in their order.

    A file ending in ``.jsonl`` or ``.ndjson`` holds an object a line: ``prompt`` (or ``text``, ``caption``) and where
    wanted ``negative_prompt``, ``seed``, ``cfg_scale`` (or ``guidance``, ``guidance_scale``), ``name`` (or ``id``,
    ``item_id``); the rest is kept. ``.csv`` and ``.tsv`` have these as columns. Of a folder each ``.txt`` file is a
    prompt, in the natural order of their names. Any other file has a prompt on each line. Blank lines are skipped.

    Raises:
        DataError: If the path is missing or unreadable, if the text is not UTF-8, if there is no prompt, or if a line
            is not understood; the message names the line.
    """
    path = Path(path)
    if "\0" in str(path):
        raise DataError(f"cannot read the prompts {_shown(path)}: no file's name holds a NUL")
    try:
        if path.is_dir():
            found = list(_of_folder(path))
        else:
            readers = {".jsonl": _of_jsonl, ".ndjson": _of_jsonl, ".csv": _of_csv, ".tsv": _of_csv}
            ending = path.suffix.lower()
            if ending == ".json":
                raise DataError(
                    f"{path} is JSON; prompts are read from JSON Lines: an object on each line of a .jsonl file"
                )
            found = list(readers.get(ending, _of_lines)(path, _text_of(path)))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = f"no such file; give a file {_KINDS}" if missing else error.strerror or str(error)
        raise DataError(f"cannot read the prompts {_shown(error.filename or path)}: {reason}") from None
    if not found:
        raise DataError(f"{path} holds no prompt; give a file {_KINDS}")
    return found


def _shown(path: str | Path) -> str:
    return shortened(str(path).replace("\0", "\\0"), 200)


def _text_of(path: Path) -> str:
    """The text of a UTF-8 file, without its byte-order mark.

    Raises:
        DataError: If the file is in another encoding, no text, or too large for prompts.
    """
    if path.stat().st_size > _LARGEST_BYTES:
        raise DataError(
            f"{path} has {path.stat().st_size:,} bytes and is no list of prompts; give a file {_KINDS}"
        )
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}, line 1, byte 1: this is UTF-16; save the file as UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {_line_at(content, error.start)}, byte {error.start + 1} of the file "
            f"(0x{content[error.start]:02x}): this is not UTF-8, perhaps Latin-1 or Windows-1252; "
            "save the file as UTF-8"
        ) from None
    if "\0" in text:
        at = content.index(0)
        raise DataError(
            f"{path}, line {_line_at(content, at)}, byte {at + 1} of the file: a NUL, which no text has; "
            "save the file as UTF-8 (this may be UTF-16)"
        )
    return text.removeprefix("\ufeff")


def _line_at(content: bytes, position: int) -> int:
    return len(re.findall(rb"\r\n|\n|\r", content[:position])) + 1


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers. Only line ends part them, not U+2028 or a form feed."""
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        kept = line.strip().removeprefix("\ufeff").strip()  # of a file that was appended to another
        if kept:
            yield number, kept


def _of_lines(path: Path, text: str) -> Iterator[Prompt]:
    for number, line in _lines(text):
        if line.startswith("{") and line.endswith("}") and _is_object(line):
            raise DataError(
                f"{path}, line {number}: this is a JSON object; name the file .jsonl to have it read as one"
            )
        yield Prompt(text=line)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _of_folder(folder: Path) -> Iterator[Prompt]:
    """A prompt of each text file that is not hidden; its lines are joined by blanks."""
    files = [
        file for file in folder.iterdir() if file.suffix.lower() == ".txt" and not file.name.startswith(".")
    ]
    if not files:
        raise DataError(f"{folder} holds no .txt file; a folder of prompts has one prompt in each")
    for file in sorted(files, key=lambda file: natural(file.name)):
        text = " ".join(line for _, line in _lines(_text_of(file)))
        if not text:
            raise DataError(f"{file} is empty; a folder of prompts has one prompt in each file")
        yield Prompt(text=text, name=file.stem)


def natural(name: str) -> list[tuple[int, int, str]]:
    """The key that sorts ``2.txt`` before ``10.txt``; equal only for equal names."""
    parts = re.split(r"(\d+)", name)
    key = [(0, int(part), "") if i % 2 else (1, 0, part.casefold()) for i, part in enumerate(parts)]
    return [*key, (2, 0, name)]


def _of_jsonl(path: Path, text: str) -> Iterator[Prompt]:
    for number, line in _lines(text):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except RecursionError:
            raise DataError(f"{where}: this is nested too deeply") from None
        except ValueError as error:
            said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(
                f"{where}: this is not JSON ({said}); each line is an object as "
                '{"prompt": "a red cube", "seed": 1}'
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"{where}: this is JSON, but no object; each line is one as "
                '{"prompt": "a red cube", "seed": 1}'
            )
        yield _prompt(row, where, line=line)


def _of_csv(path: Path, text: str) -> Iterator[Prompt]:
    """A prompt of each row; rows of one name and text that follow each other, as DPG-Bench's questions, are one."""
    import csv
    import io

    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    before = None
    try:
        columns = [(name or "").strip() for name in reader.fieldnames or []]
        if columns and not any(name in columns for name in _TEXT):
            raise DataError(
                f"{path}, line 1: no column is called prompt, text or caption, of {shortened(', '.join(columns), 120)}"
            )
        reader.fieldnames = columns
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(
                    f"{where}: this row does not have the {len(columns)} fields of the first line"
                )
            text_of = next(name for name in _TEXT if name in row)
            prompt = _prompt({k: v for k, v in row.items() if v or k == text_of}, where)
            if prompt.name is None or before != (prompt.name, prompt.text):
                yield prompt
            before = prompt.name, prompt.text
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: this is no row of a table ({error})") from None


def _prompt(row: dict[str, Any], where: str, *, line: str = "") -> Prompt:
    """The prompt that the fields of a line mean.

    Raises:
        DataError: If the text is missing, or a field is of another kind or range.
    """
    text = next((key for key in _TEXT if key in row), None)
    if text is None:
        there = shortened(", ".join(map(str, row)), 120) or "nothing"
        raise DataError(f"{where}: prompt is missing (also read: text, caption); the line has {there}")
    name = next((key for key in _NAME if _is_name(row.get(key))), None)
    scale = _number(row, _SCALE, NotNegative, where)
    read_here = {*_READ, text, *(("name",) if name == "name" else ())}  # an id is kept: its line may need it
    return Prompt(
        text=_words(row, text, where),
        negative=None if row.get("negative_prompt") is None else _words(row, "negative_prompt", where),
        seed=_number(row, ("seed",), Seed, where),
        cfg_scale=None if scale is None else float(scale),  # 2 and 2.0 are one scale
        name=None if name is None else str(row[name]),
        about={key: value for key, value in row.items() if key not in read_here},
        line=line,
    )


def _is_name(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and value != ""
    )


def _words(row: dict[str, Any], key: str, where: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise DataError(f"{where}: {key} {shortened(json.dumps(value))}: give text")
    if found := re.search(r"[\ud800-\udfff]", value):
        raise DataError(
            f"{where}: {key} holds half a character (\\u{ord(found[0]):x}); write both halves, or UTF-8"
        )
    return value


def _number(row: dict[str, Any], keys: Iterable[str], kind: Any, where: str) -> Any:
    """The value of whichever of these fields is there; None where none is, or where it is null."""
    given = [key for key in keys if row.get(key) is not None]
    found = []
    for key in given:
        try:
            found.append(read(row[key], kind))
        except (Mismatch, OverflowError):  # OverflowError: a whole number that no float holds
            raise DataError(
                f"{where}: {key} {shortened(json.dumps(row[key]))}: give {describe(kind)}"
            ) from None
    if len(set(found)) > 1:
        raise DataError(f"{where}: {' and '.join(given)} mean the same and differ; leave one out")
    return found[0] if found else None
