"""A folder of weights that can be carried: what is in it, whole and verified, and its list, ``weights.json``."""

import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from unirae.app.weights.catalogue import Need
from unirae.app.weights.hub import Hub, Listing, RemoteFile, choose
from unirae.core.download import Progress, download, hash_in_name, remote_size
from unirae.core.errors import UserError, WeightsError
from unirae.core.io import file_sha256, read_json, write_json
from unirae.core.weights import may_ask_network

MANIFEST = "weights.json"

Check = Literal["whole", "unverified", "damaged"]
_PART = re.compile(r"-\d+-of-\d+\.")
_STAYS = {
    "whole": "whole",
    "unverified": "its publisher cannot be asked, so it is neither verified nor listed",
}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file in the folder: its path below it, bytes, SHA-256."""

    path: str
    size: int
    sha256: str


class Store:
    """A weights folder, which need not exist yet.

    Args:
        folder: where it is.
        hub: how models are fetched.

    Raises:
        UserError: the list in the folder is damaged.
    """

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.folder, self._hub = folder, hub
        self._entries = _read_manifest(folder / MANIFEST)

    def files(self, need: Need) -> list[Stored]:
        """What the list says of it; empty if it was not fetched by this command."""
        entry = self._entries.get(need.place)
        return [Stored(**file) for file in entry["files"]] if entry else []

    def state(self, need: Need) -> str:
        """``there``, ``incomplete``, ``missing``, or ``there, not listed``; by sizes, without reading the files."""
        if not (self.folder / need.place).exists():
            return "missing"
        stored = self.files(need)
        if not stored:
            lacking = not need.is_file and not _is_model(self.folder / need.place)
            return "incomplete" if lacking else "there, not listed"
        return "there" if all(self._size(file) == file.size for file in stored) else "incomplete"

    def check(self, need: Need) -> Check:
        """By the hashes of the list, or else by what its publisher says.

        What is neither listed nor can be asked about is ``unverified`` if it has the files that a model needs:
        somebody put it there.
        """
        stored, path = self.files(need), self.folder / need.place
        if stored:
            same = all(
                self._size(file) == file.size and file_sha256(self.folder / file.path) == file.sha256
                for file in stored
            )
            return "whole" if same else "damaged"
        if not need.is_file:
            return self._as_published(need, path) if _is_model(path) else "damaged"
        if not path.is_file():
            return "damaged"
        if (expected := hash_in_name(need.place)) is not None:
            return "whole" if file_sha256(path).startswith(expected) else "damaged"
        size = remote_size(need.source) if may_ask_network() else None
        if size is None:
            return "unverified"
        return "whole" if path.stat().st_size == size else "damaged"

    def is_whole(self, need: Need) -> bool:
        """Whether nothing is known to be missing or damaged."""
        return self.check(need) != "damaged"

    def _as_published(self, need: Need, folder: Path) -> Check:
        if not may_ask_network():
            return "unverified"
        try:
            listing = self._hub.listing(need.source)
        except WeightsError:
            return "unverified"
        return "damaged" if any(_problem(folder / file.name, file) for file in listing.files) else "whole"

    def fetch(self, need: Need, *, progress: Progress) -> None:
        """Bring it here and write it into the list.

        Raises:
            WeightsError: it cannot be had, or what came is not what was published.
        """
        if need.is_file:
            path = self.folder / need.place
            download(need.source, path, sha256=hash_in_name(need.place), resume=True, progress=progress)
            self.record(need)
            return
        listing = self._hub.listing(need.source)
        part = self.folder / f".{need.place}.part"
        part.mkdir(parents=True, exist_ok=True)
        self._hub.fetch(need.source, listing, part)
        _verify(part, listing, need.source)
        shutil.rmtree(part / ".cache", ignore_errors=True)  # the hub client's own notes
        _replace(part, self.folder / need.place)
        self.record(need, revision=listing.revision, licence=listing.licence)

    def record(self, need: Need, *, revision: str | None = None, licence: str | None = None) -> None:
        """Hash what is there and write it into the list."""
        root = self.folder / need.place
        paths = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        files = [
            Stored(
                path=path.relative_to(self.folder).as_posix(),
                size=path.stat().st_size,
                sha256=file_sha256(path),
            )
            for path in paths
        ]
        self._entries[need.place] = {
            "what": need.what,
            "source": need.source,
            "revision": revision,
            "licence": need.licence or licence,
            "files": [asdict(file) for file in files],
        }
        write_json(self.folder / MANIFEST, {"weights": dict(sorted(self._entries.items()))})

    def licence(self, need: Need) -> str | None:
        """As the list has it."""
        entry = self._entries.get(need.place)
        return entry["licence"] if entry else None

    def _size(self, file: Stored) -> int | None:
        path = self.folder / file.path
        return path.stat().st_size if path.is_file() else None


def fetch_all(
    store: Store,
    needs: tuple[Need, ...],
    *,
    progress: Callable[[Need], Progress],
    say: Callable[[str], object],
) -> None:
    """Fetch what is missing or damaged; what is whole stays.

    One that fails does not keep the others from being fetched.

    Raises:
        WeightsError: some could not be had; the message has one sentence for each.
    """
    problems = []
    for need in needs:
        found = store.check(need)
        if found == "whole" and not store.files(need):
            store.record(need)
        if found != "damaged":
            say(f"{need.place}: {_STAYS[found]}, stays")
            continue
        say(f"{need.place}: fetching from {need.source}")
        try:
            store.fetch(need, progress=progress(need))
        except WeightsError as error:
            problems.append(f"{need.what}: {error}")
    if problems:
        raise WeightsError("; ".join(problems))


def _read_manifest(file: Path) -> dict[str, dict[str, Any]]:
    """The entries of the list; none where there is no list."""
    if not file.is_file():
        return {}
    content = read_json(file)
    try:
        for entry in content["weights"].values():
            _ = entry["licence"], [Stored(**stored) for stored in entry["files"]]
    except (AttributeError, KeyError, TypeError):
        raise WeightsError(
            f"{file} is not the list that fetch_weights.py writes. Remove it: what is in the folder is then checked "
            "and listed again"
        ) from None
    return content["weights"]


def _is_model(folder: Path) -> bool:
    """Whether a configuration and weights are there, every part of them that an index names."""
    if not (folder / "config.json").is_file():
        return False
    try:
        names = choose([path.name for path in folder.iterdir() if path.is_file()], folder.name)
    except WeightsError:
        return False
    parts = {name for name in names if _PART.search(name)}
    indices = [name for name in names if name.endswith(".index.json")]
    try:
        listed = {name for index in indices for name in read_json(folder / index)["weight_map"].values()}
    except (AttributeError, KeyError, TypeError, UserError):
        return False
    return parts == listed


def _problem(path: Path, file: RemoteFile) -> str | None:
    """What is wrong with a file beside what the hub says of it."""
    if not path.is_file():
        return "did not arrive"
    right_size = file.size is None or path.stat().st_size == file.size
    right_hash = file.sha256 is None or (right_size and file_sha256(path) == file.sha256)
    return None if right_size and right_hash else "arrived damaged (its size or SHA-256 is not the hub's)"


def _verify(folder: Path, listing: Listing, repository: str) -> None:
    for file in listing.files:
        path = folder / file.name
        if problem := _problem(path, file):
            path.unlink(missing_ok=True)  # the client would take it for whole the next time
            raise WeightsError(f"{repository}: {file.name} {problem}; run it again to continue")


def _replace(new: Path, place: Path) -> None:
    """Put a whole folder where there may be a damaged one."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
