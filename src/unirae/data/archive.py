"""Image files that ``prepare_data`` reads: a folder or a tar (also a tar of tars, as ImageNet's)."""

import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from unirae.core.errors import DataError
from unirae.data.caption_files import CaptionFiles, FolderCaptionFiles, may_hold_captions
from unirae.data.file_kinds import OTHER, FileKinds, LeftOut, is_hidden, is_of_program
from unirae.data.listing import find_files

Stamp = list[int]
"""Mark of a file that changes with it, without its contents: its size and the times of its changes."""


class ImageFiles(Protocol):
    """Named image files; reading them in the order of ``paths`` is fastest."""

    paths: list[str]
    left_out: LeftOut

    def stamp(self, path: str) -> Stamp | None:
        """A file's stamp; None where it cannot be asked, as for a link that leads nowhere."""
        ...

    def read(self, path: str) -> bytes:
        """A file's bytes; ``OSError`` or ``tarfile.TarError`` where it cannot be read."""
        ...

    def caption_files(self) -> CaptionFiles:
        """The files around the images that may hold their captions."""
        ...


class FolderFiles:
    """Image files below a folder."""

    def __init__(self, root: Path):
        self._root = root
        self.paths, self.left_out = find_files(root)

    def stamp(self, path: str) -> Stamp | None:
        """Size and times; the time of the inode shows also a change that put the file's own time back."""
        try:
            found = (self._root / path).stat()
        except OSError:
            return None
        return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]

    def read(self, path: str) -> bytes:
        """A file's bytes."""
        return (self._root / path).read_bytes()

    def caption_files(self) -> CaptionFiles:
        """The files in the folders of the images, and above."""
        return FolderCaptionFiles(self._root, self.paths)


_Member = tuple[tarfile.TarFile, tarfile.TarInfo]


class TarFiles:
    """Image files in a tar; a member ``n01440764.tar`` is opened as the folder ``n01440764``.

    Of members of one name the last counts, as for tar. Links to files are read; a leading slash is dropped.
    """

    def __init__(self, archive: tarfile.TarFile, path: Path):
        found = path.stat()
        self._times = [found.st_mtime_ns, found.st_ctime_ns]
        self._members: dict[str, _Member] = {}
        self._texts: dict[str, _Member] = {}
        self.left_out, self._kinds, self._program_folders = LeftOut(), FileKinds(), set[str]()
        self._links: dict[str, str] = {}
        self._add(archive, prefix="")
        self.paths = list(self._members)
        for link, target in self._links.items():
            leads_to_folder = any(path.startswith(f"{target}/") for path in self.paths)
            (self.left_out.visited_links if leads_to_folder else self.left_out.dead_links).append(link)

    def _add(self, archive: tarfile.TarFile, prefix: str) -> None:
        for member in archive:
            inner = posixpath.normpath(member.name.lstrip("/"))
            name = prefix + inner
            link = member.issym() or member.islnk()
            if member.isdir() or self._is_hidden(name):
                continue
            if inner.split("/")[0] == "..":
                self.left_out.outside.append(prefix + member.name)
            elif member.isfile() and name.lower().endswith(".tar"):
                opened = tarfile.open(fileobj=archive.extractfile(member))  # noqa: SIM115 -- lives as long as self
                self._add(opened, prefix=name[: -len(".tar")] + "/")
            elif (member.isfile() or link) and self._kinds.of(name) is None:
                self._members.pop(name, None)  # so that the order stays that of reading
                self._members[name] = (archive, member)
            elif (member.isfile() or link) and may_hold_captions(posixpath.basename(name)):
                if self._texts.pop(name, None) is None:
                    self.left_out.kinds[OTHER] += 1
                self._texts[name] = (archive, member)
            elif link:
                base = posixpath.dirname(inner) if member.issym() else ""
                self._links[name] = prefix + posixpath.normpath(posixpath.join(base, member.linkname))
            else:
                self.left_out.kinds[self._kinds.of(name) or OTHER] += 1

    def _is_hidden(self, name: str) -> bool:
        """Say whether a member, or a folder that it lies in, is hidden; counts folders of programs."""
        *folders, file = name.split("/")
        for depth, folder in enumerate(folders):
            where = "/".join(folders[: depth + 1])
            if is_of_program(folder) and where not in self._program_folders:
                self._program_folders.add(where)
                self.left_out.program_folders[folder] += 1
        hidden = any(is_of_program(folder) or (is_hidden(folder) and folder != "..") for folder in folders)
        return hidden or is_hidden(file)

    def stamp(self, path: str) -> Stamp | None:
        """The member's size and time, and the archive's times."""
        member = self._members[path][1]
        return [member.size, int(member.mtime), *self._times]

    def read(self, path: str) -> bytes:
        """A member's bytes."""
        return _read_member(*self._members[path])

    def caption_files(self) -> CaptionFiles:
        """The other members that may hold captions."""
        return _TarCaptionFiles(self._texts, self._members.keys() | self._texts.keys())


class _TarCaptionFiles:
    """Members of a tar that may hold captions, in the order of the archive."""

    def __init__(self, texts: dict[str, _Member], known: AbstractSet[str]):
        self.paths: Sequence[str] = list(texts)
        self._texts, self._known = texts, known

    def read(self, path: str, most: int | None = None) -> bytes:
        """A member's bytes, the first ``most``."""
        return _read_member(*self._texts[path], most)

    def is_there(self, path: str) -> bool:
        """Say whether there is an image or a text at a path."""
        return path in self._known


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int | None = None) -> bytes:
    try:
        file = archive.extractfile(member)
    except (KeyError, RecursionError):
        raise OSError(f"a link to {member.linkname}, which is not in the archive") from None
    if file is None:
        raise OSError(f"a link to {member.linkname}, which is no file")
    return file.read(-1 if most is None else most)


@contextmanager
def open_images(path: Path) -> Iterator[ImageFiles]:
    """A folder's or a tar's images.

    Raises:
        DataError: If ``path`` does not exist, or is neither a folder nor a tar.
    """
    if path.is_dir():
        yield FolderFiles(path)
        return
    try:
        archive = tarfile.open(path)  # noqa: SIM115 -- closed below
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"cannot read {path}: {error}. Give a folder of images or a tar file.") from error
    with archive:
        try:
            files = TarFiles(archive, path)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise DataError(f"{path} is truncated or damaged: {error}. Copy it again.") from error
        yield files
