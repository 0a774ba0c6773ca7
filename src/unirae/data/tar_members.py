"""Members of a tar by its headers alone: their names, places and sizes, so that each can be read by number.

Only headers are read and what lies between is passed over. The standard library's ``tarfile`` does that more slowly,
and does not say of most damaged archives that they are. Understood are POSIX (ustar, PAX) and GNU tars: long names,
sizes above 8 GB, sparse files, and tars that were appended to each other.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from unirae.core.errors import DataError

BLOCK = 512
_AHEAD = 8 * BLOCK
"""Bytes read with a header: captions and labels behind it are small, and the next header may be among them."""
_MOST_ZEROS = 2**20
"""A tar's end is filled up with zeros; behind more of them nothing is looked for."""
_LONGEST_EXTENSION = 2**20
"""Bytes of a long name or of PAX records; more are damage."""
_WITHOUT_DATA = b"123456"
_LINKS = b"12"
_REGULAR = b"0\x007"
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}

Kind = Literal["file", "link", "sparse", "other"]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar: its name (bytes that are not UTF-8 as surrogates), and where its bytes lie."""

    name: str
    offset: int
    size: int
    kind: Kind


class DamagedTarError(DataError):
    """A tar that cannot be read further. The message is a clause: "it ends in the middle of a.jpg".

    Attributes:
        member: the name of the member that is not whole; None between two members.
    """

    def __init__(self, message: str, member: str | None = None):
        super().__init__(message)
        self.member = member


class UnmarkedEndError(DamagedTarError):
    """A tar that ends behind a member, but without the blocks of zeros that mark the end."""


class TarReader:
    """Reads pieces of an open file, mostly in ascending order, a few kilobytes at once."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._start, self._held = 0, b""

    def read(self, position: int, count: int) -> bytes:
        """``count`` bytes from ``position``; fewer only at the end of the file."""
        start = position - self._start
        if start < 0 or start + count > len(self._held):
            self._held = os.pread(self._descriptor, max(count, _AHEAD), position)
            self._start, start = position, 0
        return self._held[start : start + count]


def compression_of(start: bytes) -> str | None:
    """The program whose output begins with these bytes; None where a file does not look compressed."""
    return next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)


def members(reader: TarReader, size: int) -> Iterator[Member]:
    """All whole members that are not folders, in the order of the file.

    Args:
        size: of the file, in bytes.

    Raises:
        DamagedTarError: Behind the last whole member, if the file is cut or damaged there.
        OSError: If the file cannot be read.
    """
    position, extension = 0, _Extension({})
    while True:
        header = reader.read(position, BLOCK)
        if len(header) < BLOCK or not any(header):
            if extension.begun:
                raise DamagedTarError("it ends behind a long name")
            following = _next_part(reader, position, header)
            if following is None:
                return
            position = following
            continue
        stored, kind_flag = _checked(header, position)
        position += BLOCK
        if kind_flag in b"LKxXg":
            extension.add(kind_flag, _extension_bytes(reader, position, stored, size))
            position += _padded(stored)
            continue
        if kind_flag == b"S":
            position = _behind_sparse_map(reader, position, header)
        name = extension.name or _name_of(header)
        stored = extension.size if extension.size is not None else stored
        length = 0 if kind_flag in _WITHOUT_DATA else stored
        if position + length > size:
            raise DamagedTarError("it ends in the middle of", name)
        kind = _kind(kind_flag, extension)
        if not (kind_flag == b"5" or (kind == "file" and name.endswith("/"))):
            yield Member(name, position, length, kind)
        position += _padded(length)
        extension = _Extension(extension.of_all)


class _Extension:
    """What headers in front of a member's own say of it: GNU's long names and the records of PAX."""

    def __init__(self, of_all: dict[str, str]):
        self.of_all = of_all
        self.begun = False
        self._long_name: str | None = None
        self._records: dict[str, str] = {}

    def add(self, flag: bytes, content: bytes) -> None:
        self.begun = flag != b"g"
        if flag == b"L":
            self._long_name = _text(content)
        elif flag == b"g":
            self.of_all = {**self.of_all, **_pax(content)}
        elif flag in b"xX":
            self._records.update(_pax(content))

    def _get(self, key: str) -> str | None:
        return self._records.get(key, self.of_all.get(key))

    @property
    def name(self) -> str | None:
        return self._get("GNU.sparse.name") or self._get("path") or self._long_name

    @property
    def size(self) -> int | None:
        given = self._get("size")
        return int(given) if given is not None and given.isdecimal() else None

    @property
    def sparse(self) -> bool:
        return any(key.startswith("GNU.sparse.") for key in (*self._records, *self.of_all))


def _checked(header: bytes, position: int) -> tuple[int, bytes]:
    """The size that a header speaks of, and its type; refuses a header whose checksum does not match."""
    stated, total = _number(header[148:156]), sum(header) - sum(header[148:156]) + 8 * 32
    signed = (
        total - 256 * sum(byte > 127 for byte in (*header[:148], *header[156:])) if stated != total else 0
    )
    stored = _number(header[124:136])
    if stated is None or stored is None or stated not in (total, signed):
        raise DamagedTarError(
            "it is no tar" if position == 0 else f"it is damaged at byte {position:,}, where no header is"
        )
    return stored, header[156:157]


def _kind(flag: bytes, extension: _Extension) -> Kind:
    if flag in _LINKS:
        return "link"
    if flag == b"S" or extension.sparse:
        return "sparse"
    return "file" if flag in _REGULAR else "other"


def _next_part(reader: TarReader, position: int, header: bytes) -> int | None:
    """Where another tar begins behind the end of this one; None where nothing follows.

    Raises:
        DamagedTarError: If the file ends here without a mark of its end.
    """
    if not header and position == 0:
        raise DamagedTarError("it is empty")
    if len(header) < BLOCK:
        if any(header):
            raise DamagedTarError("it ends in the middle of a header")
        raise UnmarkedEndError("it ends without the mark of a tar's end")
    start = position
    while position - start < _MOST_ZEROS:
        chunk = reader.read(position, BLOCK)
        if len(chunk) < BLOCK:
            return None
        if any(chunk):
            return position
        position += BLOCK
    return None


def _extension_bytes(reader: TarReader, position: int, count: int, size: int) -> bytes:
    if position + count > size:
        raise DamagedTarError("it ends in the middle of a header")
    if count > _LONGEST_EXTENSION:
        raise DamagedTarError(
            f"it is damaged at byte {position:,}, where a name of {count:,} bytes should be"
        )
    return reader.read(position, count)


def _behind_sparse_map(reader: TarReader, position: int, header: bytes) -> int:
    """The position behind the further headers of a sparse file of GNU's older format."""
    more = header[482:483] not in (b"", b"\0")
    while more:
        block = reader.read(position, BLOCK)
        if len(block) < BLOCK:
            raise DamagedTarError("it ends in the middle of a header")
        more = block[504:505] != b"\0"
        position += BLOCK
    return position


def _name_of(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""  # GNU keeps other things there
    return f"{prefix}/{name}" if prefix else name


def _number(field: bytes) -> int | None:
    """A number of a header, octal or, where its first bit is set, binary; None where it is neither."""
    if field[0] & 0x80:
        return None if field[0] == 0xFF else int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    return int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else None


def _pax(content: bytes) -> dict[str, str]:
    """The records ``LENGTH KEY=VALUE`` of a PAX header; what does not look so is left out."""
    found, start = {}, 0
    while start < len(content):
        length, space, _ = content[start : start + 20].partition(b" ")
        if not space or not length.isdigit() or int(length) <= len(length) + 1:
            break
        key, _, value = content[start + len(length) + 1 : start + int(length)].partition(b"=")
        found[_text(key)] = value.removesuffix(b"\n").decode(errors="surrogateescape")
        start += int(length)
    return found


def _padded(count: int) -> int:
    return -(-count // BLOCK) * BLOCK


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="surrogateescape")
