"""What a source holds, for the names of what is computed from it and kept."""

from typing import Any

from unirae.data.folder import FolderSource
from unirae.data.source import Source


def content_of(source: Source) -> dict[str, Any]:
    """The fingerprint; of a folder without its place, but with the sizes and times of its files.

    So a folder may be moved, and a changed file is not taken for the old one.
    """
    if not isinstance(source, FolderSource):
        return source.fingerprint
    return {
        **{key: value for key, value in source.fingerprint.items() if key != "path"},
        "files_sha256": source.files_sha256(),
    }
