"""Where ``prepare_data`` takes image files from: a folder or a tar (also a tar of tars, as ImageNet's)."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from unirae.core.errors import DataError
from unirae.data.listing import find_images, is_image_path


class ImageFiles(Protocol):
    """Named image files; reading them in the order of ``paths`` is fastest."""

    paths: list[str]

    def read(self, path: str) -> bytes:
        """A file's bytes; ``OSError`` or ``tarfile.TarError`` where it cannot be read."""
        ...


class FolderFiles:
    """Image files below a folder."""

    def __init__(self, root: Path):
        self._root = root
        self.paths = find_images(root)

    def read(self, path: str) -> bytes:
        """A file's bytes."""
        return (self._root / path).read_bytes()


class TarFiles:
    """Image files in a tar; a member ``n01440764.tar`` is opened as the folder ``n01440764``."""

    def __init__(self, archive: tarfile.TarFile):
        self._members: dict[str, tuple[tarfile.TarFile, tarfile.TarInfo]] = {}
        self._add(archive, prefix="")
        self.paths = list(self._members)

    def _add(self, archive: tarfile.TarFile, prefix: str) -> None:
        for member in archive:
            name = prefix + member.name.removeprefix("./")
            if member.isfile() and name.endswith(".tar"):
                inner = tarfile.open(fileobj=archive.extractfile(member))  # noqa: SIM115 -- lives as long as self
                self._add(inner, prefix=name.removesuffix(".tar") + "/")
            elif member.isfile() and is_image_path(name):
                self._members[name] = (archive, member)

    def read(self, path: str) -> bytes:
        """A member's bytes."""
        archive, member = self._members[path]
        file = archive.extractfile(member)
        return file.read() if file else b""


@contextmanager
def open_images(path: Path) -> Iterator[ImageFiles]:
    """A folder's or a tar's images.

    Raises:
        DataError: it does not exist or is neither.
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
            files = TarFiles(archive)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise DataError(f"{path} is truncated or damaged: {error}. Copy it again.") from error
        yield files
