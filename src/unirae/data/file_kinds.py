"""Kinds of files by their names: a picture that is read, one that could be, or something else.

Formats that Pillow does not read by itself are read where a package that teaches it is installed (:data:`READERS`).
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import Any

from unirae.core.log import get_logger
from unirae.core.names import count_of, first_of, on_one_line, printable

log = get_logger(__name__)

SUFFIXES = ".jpg .jpeg .jfif .png .webp .avif .bmp .gif .tif .tiff .jp2 .ppm .pgm .pbm .tga"
_KINDS = {
    "raw photographs": ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw "
    ".rw2 .rwl .sr2 .srf .srw .x3f",
    "svg": ".svg .svgz",
    "psd": ".psd .psb",
    "other pictures": ".ai .apng .dds .eps .exr .hdr .icns .ico .j2c .j2k .jpe .jpf .jpx .jxr .pcx .pfm .pnm .qoi .sgi "
    ".wdp .xcf",
    "videos": ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .webm .wmv",
    "archives": ".7z .bz2 .gz .rar .tar .tgz .xz .zip .zst",
}
PICTURES = ("heic", "jxl", "raw photographs", "svg", "psd", "other pictures")
"""Kinds that hold pictures which the user may miss."""
OTHER = "other files"
_OF_SYSTEMS = {"thumbs.db", "desktop.ini", "ehthumbs.db"}  # Windows puts them beside pictures
_FOLDERS_OF_PROGRAMS = {
    "@eadir",
    "#recycle",
    "#snapshot",
    "@recycle",
    "$recycle.bin",
    "recycler",
    "lost+found",
    "__macosx",
    "system volume information",
    "network trash folder",
    "temporary items",
}


@dataclass(frozen=True)
class Reader:
    """A package that teaches Pillow a format."""

    kind: str
    suffixes: frozenset[str]
    package: str
    module: str
    register: str | None
    """The module's function that does it; None where importing it is enough."""
    signature: re.Pattern[bytes]
    """Pattern of the first bytes of such a file."""


READERS = (
    Reader(
        kind="heic",
        suffixes=frozenset({".heic", ".heif", ".hif"}),
        package="pillow-heif",
        module="pillow_heif",
        register="register_heif_opener",
        signature=re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL),
    ),
    Reader(
        kind="jxl",
        suffixes=frozenset({".jxl"}),
        package="pillow-jxl-plugin",
        module="pillow_jxl",
        register=None,
        signature=re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL "),
    ),
)


def installed_readers() -> list[Reader]:
    """The readers whose package is here."""
    return [reader for reader in READERS if find_spec(reader.module) is not None]


@cache
def register_readers() -> None:
    """Teach Pillow what the installed packages can read; once in a process."""
    for reader in installed_readers():
        try:
            module = import_module(reader.module)
        except (ImportError, OSError) as error:  # a library of the system that it needs
            log.warning("%s files cannot be read: %s does not load (%s)", reader.kind, reader.package, error)
            continue
        if reader.register is not None:
            getattr(module, reader.register)()


def missing_reader(start: bytes) -> Reader | None:
    """The reader that is not installed and could read a file with these first bytes."""
    here = installed_readers()
    return next((reader for reader in READERS if reader.signature.match(start) and reader not in here), None)


class FileKinds:
    """Tells pictures from other files by their names, with the readers that are installed now."""

    def __init__(self):
        readers = installed_readers()
        self._read = frozenset(SUFFIXES.split()).union(*(reader.suffixes for reader in readers))
        self._kinds = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes.split()}
        self._kinds |= {suffix: reader.kind for reader in READERS for suffix in reader.suffixes}

    def of(self, path: str) -> str | None:
        """The kind of a file that is not read; None for a picture that is."""
        suffix = PurePosixPath(path).suffix.lower()
        return None if suffix in self._read else self._kinds.get(suffix, OTHER)


def is_hidden(name: str) -> bool:
    """Say whether a file or folder of that name is hidden, or a system's own."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def is_of_program(name: str) -> bool:
    """Say whether a folder of that name holds a known program's thumbnails or trash."""
    return name.lower() in _FOLDERS_OF_PROGRAMS or name.lower().endswith(".lrdata")


@dataclass
class LeftOut:
    """Files of a folder or archive that are not read.

    Attributes:
        kinds: files by kind; hidden ones do not count.
        program_folders: folders of thumbnails and trash by name.
        visited_links: links to folders that are read elsewhere.
        dead_links: links that lead nowhere and are not named like pictures, which would count as unreadable.
        outside: members of an archive whose names lead out of it.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    program_folders: Counter[str] = field(default_factory=Counter)
    visited_links: list[str] = field(default_factory=list)
    dead_links: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    @property
    def matters(self) -> bool:
        """True where a user may miss some of the files."""
        return bool(self.visited_links or self.dead_links or self.outside or set(PICTURES) & set(self.kinds))

    def summary(self) -> str:
        """One line; empty where nothing was left out."""
        parts = [self._of_kind(kind) for kind in (*PICTURES, "videos", "archives", OTHER) if self.kinds[kind]]
        if self.program_folders:
            names = ", ".join(on_one_line(name) for name in sorted(self.program_folders))
            parts.append(
                f"{count_of(self.program_folders.total(), 'folder')} of thumbnails or trash ({names})"
            )
        for links, noun, what in (
            (self.visited_links, "link", "to folders that are visited already"),
            (self.dead_links, "link", "leading nowhere"),
            (self.outside, "member", "with names that lead outside"),
        ):
            if links:
                parts.append(f"{count_of(len(links), noun)} {what} ({first_of(links)})")
        return "; ".join(parts)

    def _of_kind(self, kind: str) -> str:
        reader = next((reader for reader in READERS if reader.kind == kind), None)
        advice = (
            f" (read where {reader.package} is installed: pip install {reader.package})" if reader else ""
        )
        count = self.kinds[kind]
        return f"{count} {kind.removesuffix('s') if count == 1 else kind}{advice}"

    def record(self) -> dict[str, Any]:
        """The files in a form for the report, ready for JSON."""
        return {
            "files_by_kind": {kind: count for kind, count in sorted(self.kinds.items()) if count},
            "thumbnail_and_trash_folders": dict(sorted(self.program_folders.items())),
            "links_to_visited_folders": [printable(link) for link in self.visited_links],
            "links_that_lead_nowhere": [printable(link) for link in self.dead_links],
            "names_that_lead_outside": [printable(name) for name in self.outside],
        }
