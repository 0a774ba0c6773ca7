"""Small tar shards in WebDataset's layout."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image


def picture(level: int, size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    """An evenly grey picture, as a file."""
    stored = io.BytesIO()
    Image.new("RGB", size, (level,) * 3).save(stored, kind)
    return stored.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes | str], *, format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of members by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members.items():
            add(tar, name, content.encode() if isinstance(content, str) else content)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    """A member, with fields of its header."""
    about = tarfile.TarInfo(name)
    about.size = len(content)
    for field, value in fields.items():
        setattr(about, field, value)
    tar.addfile(about, io.BytesIO(content))


def sample_members(levels: range, *, captions: bool = True, classes: int = 0) -> dict[str, bytes | str]:
    """Members of samples, whose keys and grey levels are numbers."""
    found: dict[str, bytes | str] = {}
    for level in levels:
        found[f"{level:04d}.png"] = picture(level)
        if captions:
            found[f"{level:04d}.txt"] = f"grey {level}"
        if classes:
            found[f"{level:04d}.cls"] = str(level % classes)
    return found
