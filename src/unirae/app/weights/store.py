"""A folder of weights that can be carried: its contents, whole and verified, and its list, ``weights.json``."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from unirae.app.weights.catalogue import Need
from unirae.app.weights.hub import File, HuggingFaceHub, Listing, choose, has_vocabulary
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


class Store:
    """A weights folder, which need not exist yet.

    Args:
        folder: the path of the folder.
        hub: the hub that models are fetched from.

    Raises:
        UserError: If the list in the folder is damaged.
    """

    def __init__(self, folder: Path, hub: HuggingFaceHub) -> None:
        self.folder, self._hub = folder, hub
        self._entries = _read_manifest(folder / MANIFEST)

    def files(self, need: Need) -> list[File]:
        """The files that the list has for a need; empty if this command did not fetch them, or not the tokenizer."""
        entry = self._entries.get(need.place)
        files = [File(**file) for file in entry["files"]] if entry else []
        names = (file.path.rpartition("/")[2] for file in files)
        return [] if need.tokenizer and not has_vocabulary(names) else files

    def state(self, need: Need) -> str:
        """The state of a need by sizes alone: ``there``, ``incomplete``, ``missing``, or ``there, not listed``."""
        path, stored = self.folder / need.place, self.files(need)
        if not path.exists():
            return "missing"
        whole = all(file.has_size(self.folder) for file in stored) and (stored or _is_there(need, path))
        return "incomplete" if not whole else "there" if stored else "there, not listed"

    def check(self, need: Need) -> Check:
        """Check a need's files by the hashes of the list, or else by what the publisher says.

        What is neither listed nor can be asked about is ``unverified`` if it has the files that a model needs:
        somebody put it there.
        """
        folder, expected = self.folder, self.files(need)
        if not expected:
            if not _is_there(need, folder / need.place):
                return "damaged"
            folder, expected = (folder if need.is_file else folder / need.place), self._published(need)
        if not expected:
            return "unverified"
        return "whole" if all(file.is_whole(folder) for file in expected) else "damaged"

    def is_whole(self, need: Need) -> bool:
        """True where nothing of a need is known to be missing or damaged."""
        return self.check(need) != "damaged"

    def _published(self, need: Need) -> Sequence[File]:
        """The files of a need as the publisher states them; empty where nobody can be asked."""
        if need.is_file:
            sha256 = hash_in_name(need.place)
            size = remote_size(need.source) if sha256 is None and may_ask_network() else None
            return [File(path=need.place, size=size, sha256=sha256)] if sha256 or size else []
        try:
            return self._listing(need).files if may_ask_network() else []
        except WeightsError:
            return []

    def _listing(self, need: Need) -> Listing:
        return self._hub.listing(need.source, tokenizer=need.tokenizer)

    def fetch(self, need: Need, *, progress: Progress) -> None:
        """Fetch a need and write it into the list.

        Raises:
            WeightsError: If the download fails, or if the files are not those that were published.
        """
        if need.is_file:
            sha256 = hash_in_name(need.place)
            download(need.source, self.folder / need.place, sha256=sha256, resume=True, progress=progress)
            self.record(need)
            return
        listing = self._listing(need)
        part = self.folder / f".{need.place}.part"
        part.mkdir(parents=True, exist_ok=True)
        self._hub.fetch(need.source, listing, part)
        _verify(part, listing, need.source)
        shutil.rmtree(part / ".cache", ignore_errors=True)  # the hub client's own notes
        if (place := self.folder / need.place).exists():
            shutil.rmtree(place)
        part.rename(place)
        self.record(need, revision=listing.revision, licence=listing.licence)

    def record(self, need: Need, *, revision: str | None = None, licence: str | None = None) -> None:
        """Hash a need's files that are there and write them into the list."""
        root = self.folder / need.place
        paths = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        files = [
            File(
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
        """The licence of a need, as the list has it."""
        entry = self._entries.get(need.place)
        return entry["licence"] if entry else None


def fetch_all(
    store: Store,
    needs: tuple[Need, ...],
    *,
    progress: Callable[[Need], Progress],
    say: Callable[[str], object],
) -> None:
    """Fetch the needs that are missing or damaged; those that are whole stay.

    One that fails does not keep the others from being fetched.

    Raises:
        WeightsError: If some could not be fetched; the message has one sentence for each.
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
    """The entries of the list; empty where there is no list."""
    if not file.is_file():
        return {}
    content = read_json(file)
    try:
        for entry in content["weights"].values():
            _ = entry["licence"], [File(**stored) for stored in entry["files"]]
    except (AttributeError, KeyError, TypeError):
        raise WeightsError(
            f"{file} is not the list that fetch_weights.py writes. Remove it: what is in the folder is then checked "
            "and listed again"
        ) from None
    return content["weights"]


def _is_there(need: Need, path: Path) -> bool:
    """True where the file is there, or a model's configuration, all parts of its weights that an index names, and its
    tokenizer if it is needed."""
    if need.is_file:
        return path.is_file()
    if not (path / "config.json").is_file():
        return False
    try:
        there = [file.name for file in path.iterdir() if file.is_file()]
        names = choose(there, path.name, tokenizer=need.tokenizer)
        indices = [read_json(path / name) for name in names if name.endswith(".index.json")]
        listed = {name for index in indices for name in index["weight_map"].values()}
    except (AttributeError, KeyError, TypeError, UserError):
        return False
    return listed == {name for name in names if _PART.search(name)}


def _verify(folder: Path, listing: Listing, repository: str) -> None:
    for file in listing.files:
        path = folder / file.path
        if not file.is_whole(folder):
            problem = (
                "arrived damaged (its size or SHA-256 is not the hub's)"
                if path.is_file()
                else "did not arrive"
            )
            path.unlink(missing_ok=True)  # the client would take it for whole the next time
            raise WeightsError(f"{repository}: {file.path} {problem}; run it again to continue")
