"""One file from an address: atomic, resumable, verified. Hub repositories have their own client."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import Any

from unirae.core.errors import WeightsError
from unirae.core.io import file_sha256

Progress = Callable[[int, int | None], object]
"""Called with the bytes that are here and the bytes of the whole, if known."""

_CHUNK = 2**20
_TIMEOUT_S = 30.0
_PATIENCE_S = 5.0


def hash_in_name(file_name: str) -> str | None:
    """The hexadecimal start of the SHA-256 that torch's files carry in their name: ``vgg16-397923af.pth``."""
    found = re.search(r"-([0-9a-f]{8,64})\.", file_name)
    return found[1] if found else None


def remote_size(url: str) -> int | None:
    """Bytes of the file at an address, by asking for its head; None where the server does not say or is away."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT_S) as answer:
            length = answer.headers.get("Content-Length")
    except (OSError, HTTPException, ValueError):
        return None
    return int(length) if length else None


def why_silent(url: str) -> str | None:
    """One line where the server of an address does not answer within seconds; None where it says anything at all."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE_S).close()
    except urllib.error.HTTPError:
        return None
    except (OSError, HTTPException, ValueError) as error:
        return _reason(error)
    return None


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    resume: bool = False,
    progress: Progress = lambda here, whole: None,
) -> str:
    """Fetch ``url`` into ``path`` and return its SHA-256; ``path`` is never half a file.

    Args:
        sha256: how the hash must begin, in hexadecimal.
        resume: keep what arrived before an interrupt in ``.<name>.part`` beside ``path`` and continue there. Not for
            processes that may fetch the same file at once: without it each writes a file of its own. The server's
            version of the file (ETag, or Last-Modified) is kept in ``.<name>.part.version``: where it has another one
            by then, or names none and there is no ``sha256`` to notice, the download starts anew.

    Raises:
        WeightsError: If the server refuses or cannot be reached, the disk is full, or the file has another
            hash.
    """
    part = path.with_name(f".{path.name}.part" if resume else f".{path.name}.{os.getpid()}.part")
    version = part.with_name(f"{part.name}.version")
    finished = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if resume and sha256 is None and not version.is_file():
            part.unlink(missing_ok=True)  # nothing would show that it was of another version
        whole = _receive(url, part, version, progress)
        digest = _check(url, part, whole=whole, sha256=sha256)
        os.replace(part, path)
        finished = True
    except (OSError, HTTPException, ValueError) as error:
        raise WeightsError(f"cannot download {url} ({_reason(error)})") from None
    finally:
        if not finished and part.is_file() and (not resume or part.stat().st_size == 0):
            part.unlink()
        if not part.is_file():
            version.unlink(missing_ok=True)
    return digest


def _check(url: str, part: Path, *, whole: int | None, sha256: str | None) -> str:
    """Hash what arrived; what cannot become the right file by more bytes is deleted."""
    arrived = part.stat().st_size
    if whole is not None and arrived < whole:
        raise WeightsError(f"{url} stopped after {arrived:,} of {whole:,} bytes; run it again to continue")
    digest = file_sha256(part)
    if sha256 is not None and not digest.startswith(sha256):
        part.unlink()
        raise WeightsError(f"{url} gave a file with SHA-256 {digest[:12]}…, not the published {sha256[:12]}…")
    return digest


def _receive(url: str, part: Path, version: Path, progress: Progress) -> int | None:
    """Append the bytes that ``part`` lacks, or all anew; returns the number of all bytes, if the server says it."""
    here = part.stat().st_size if part.is_file() else 0
    known = version.read_text() if here and version.is_file() else None
    with _answer(url, here, known) as answer:
        continues = answer.status == 206  # anything else is the whole file from its start
        here = here if continues else 0
        length = answer.headers.get("Content-Length")
        whole = here + int(length) if length else None
        with open(part, "ab" if continues else "wb") as file:
            if not continues:  # after the old bytes are gone, and before there are new ones
                _note(version, _version(answer.headers))
            progress(here, whole)
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                here += len(chunk)
                progress(here, whole)
            file.flush()
            os.fsync(file.fileno())
    return whole


def _answer(url: str, here: int, known: str | None) -> Any:
    """Ask the server for what follows ``here`` bytes of the known version (status 206), or else the whole file."""
    if here:
        condition = {"If-Range": known} if known else {}  # of another version the server then sends the whole
        request = urllib.request.Request(url, headers={"Range": f"bytes={here}-", **condition})
        try:
            answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
            if answer.status != 206 or not known or _version(answer.headers) in (None, known):
                return answer
            answer.close()  # a server that overlooks If-Range
        except urllib.error.HTTPError as error:
            if error.code != 416:  # 416: nothing after what is here; begin again rather than guess
                raise
    return urllib.request.urlopen(url, timeout=_TIMEOUT_S)


def _note(file: Path, version: str | None) -> None:
    file.write_text(version) if version else file.unlink(missing_ok=True)


def _version(headers: Message) -> str | None:
    """The value for ``If-Range``: a strong ETag, else the date of the last change."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    return f"{code}{str(reason).strip().splitlines()[0] if str(reason).strip() else type(error).__name__}"
