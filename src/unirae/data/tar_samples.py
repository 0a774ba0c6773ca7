"""Samples of a shard in WebDataset's layout: the members of one key, which are a picture, captions and a label.

A key is a member's path up to the first dot of its last part, and what follows that dot is the kind of the member:
``a/0001.jpg``, ``a/0001.txt`` and ``a/0001.json`` are one sample, wherever in the shard they lie.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unirae.core.errors import DataError
from unirae.core.names import on_one_line
from unirae.data.caption_columns import CAPTION_NAMES, MOST_TEXT_BYTES, TOO_LARGE, TXT, NoTextError, texts_of
from unirae.data.caption_columns import Found as Texts
from unirae.data.caption_tables import decoded
from unirae.data.file_kinds import READERS, SUFFIXES, is_hidden
from unirae.data.tar_members import DamagedTarError, Member, TarReader, UnmarkedEndError, members

LABEL_KEYS = ("label", "cls", "class")
_PICTURES = frozenset(SUFFIXES.split()).union(*(reader.suffixes for reader in READERS))
_LARGEST_NUMBER = 2**63
_NAMED = 5
_MOST_KINDS = 50

Label = int | str | None


@dataclass
class Found:
    """What was found in shards beside their samples, to be told of.

    Attributes:
        pictures: number of samples.
        lone: members, of captions and labels, without a picture.
        unreadable: captions and labels that cannot be read, by the reason.
        kinds: members of kinds that are not read.
        links, sparse, other: members that hold no bytes of their own, or not all of them.
        cut: pictures that are not whole.
        damage: of each damaged shard, what is wrong with it.
        unread: the shard could not be read further, now; another time it may be.
        names: the first names to each of the counts that are worth naming.

    In an index names are those in the shard, and the shard's own is empty; :meth:`of` puts the shard's in front.
    """

    pictures: int = 0
    lone: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    links: int = 0
    sparse: int = 0
    other: int = 0
    cut: int = 0
    damage: dict[str, str] = field(default_factory=dict)
    unread: bool = False
    names: dict[str, list[str]] = field(default_factory=dict)

    def name(self, what: str, member: str) -> None:
        """Note the name of a member, unless there are enough."""
        names = self.names.setdefault(what, [])
        if len(names) < _NAMED:
            names.append(member)

    def add(self, other: "Found") -> None:
        """Add what was found in another shard."""
        for count in ("pictures", "lone", "links", "sparse", "other", "cut"):
            setattr(self, count, getattr(self, count) + getattr(other, count))
        self.unreadable.update(other.unreadable)
        self.kinds.update(other.kinds)
        self.damage.update(other.damage)
        for what, names in other.names.items():
            for name in names:
                self.name(what, name)

    def of(self, shard: str) -> "Found":
        """The same, as of a shard of this name."""
        names = {
            what: [f"{shard}/{name}" if name else shard for name in found]
            for what, found in self.names.items()
        }
        damage = {name or shard: why for name, why in self.damage.items()}
        return replace(self, damage=damage, names=names)

    @classmethod
    def from_json(cls, text: str) -> "Found":
        """Read what :meth:`to_json` wrote."""
        stored: dict[str, Any] = json.loads(text)
        counters = {name: Counter(stored.pop(name)) for name in ("unreadable", "kinds")}
        return cls(**counters, **stored)

    def to_json(self) -> str:
        """As text for the index."""
        return json.dumps(vars(self))


@dataclass
class Samples:
    """The samples of a shard in the order of their pictures.

    Attributes:
        columns: number of columns of captions.
        captions: of each sample, for each column those that are there.
    """

    columns: int
    keys: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    captions: list[Texts] = field(default_factory=list)
    found: Found = field(default_factory=Found)


def key_and_kind(name: str) -> tuple[str, str] | None:
    """Split a member's path at the first dot of its last part; None where nothing stands before that dot or behind."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    key, _, kind = base.partition(".")
    return (folder + slash + key, kind.lower()) if key and kind else None


def samples_of(reader: TarReader, size: int, *, shard: str, columns: Sequence[str] | None) -> Samples:
    """The samples of an open shard, with captions and labels; what lies behind damage is missing, and noted.

    Args:
        size: of the shard in bytes.
        shard: its name, for messages.
        columns: keys of the JSON members, and ``txt``, which is the member of that kind first; None for one column:
            ``txt``, else the first of :data:`~unirae.data.caption_columns.CAPTION_NAMES` that the JSON member has.

    Raises:
        DataError: If a key has two pictures, or two captions or labels of one kind.
    """
    return _Scan(reader, shard, columns).run(size)


class _Scan:
    """A pass over the headers of a shard, and over the captions and labels in it."""

    def __init__(self, reader: TarReader, shard: str, columns: Sequence[str] | None):
        self._reader, self._shard, self._columns = reader, shard, columns
        self._pictures: dict[str, Member] = {}
        self._texts: dict[str, dict[str, tuple[str, ...]]] = {}
        self._values: dict[str, dict[str, Any]] = {}
        self._found = Found()

    def run(self, size: int) -> Samples:
        try:
            for member in members(self._reader, size):
                self._take(member)
        except DamagedTarError as damage:
            self._note(damage)
        except OSError as error:
            self._found.damage[""] = f"it cannot be read further ({error.strerror or error})"
            self._found.unread = True
        return self._samples()

    def _take(self, member: Member) -> None:
        found, parts = self._found, key_and_kind(member.name)
        if is_hidden(member.name.rpartition("/")[2]):
            return
        if member.kind != "file":
            name = {"link": "links", "sparse": "sparse", "other": "other"}[member.kind]
            setattr(found, name, getattr(found, name) + 1)
            return
        key, kind = parts or ("", "")
        if f".{kind}" in _PICTURES:
            self._once(self._pictures, key, member)
        elif kind == TXT:
            self._once(self._texts.setdefault(key, {}), TXT, texts_of(self._text(member)), key)
        elif kind in ("json", "cls"):
            read = self._json if kind == "json" else self._class
            self._once(self._values.setdefault(key, {}), kind, read(member), key)
        elif kind in found.kinds or len(found.kinds) < _MOST_KINDS:
            found.kinds[on_one_line(kind)] += 1
        else:
            found.kinds["others"] += 1

    def _once(self, place: dict[str, Any], name: str, value: Any, key: str | None = None) -> None:
        if name in place:
            what = "pictures" if key is None else f"'{name}' members"
            shard, shown = (on_one_line(text, most=500) for text in (self._shard, key or name))
            raise DataError(
                f"{shard}: two {what} have the key {shown}, so that nothing tells which belongs to the sample; take "
                "one out, or give it another key (what stands before the first dot of its name)"
            )
        place[name] = value

    def _note(self, damage: DamagedTarError) -> None:
        parts = key_and_kind(damage.member or "")
        if parts is not None and f".{parts[1]}" in _PICTURES:
            self._found.cut += 1
        where = "" if damage.member is None else f" {on_one_line(damage.member)}"
        if isinstance(damage, UnmarkedEndError):
            self._found.name("unmarked", "")
        else:
            self._found.damage[""] = f"{damage}{where}"

    # ------------------------------------------------------------ captions and labels

    def _unreadable(self, member: Member, why: str) -> None:
        self._found.unreadable[why] += 1
        self._found.name(why, member.name)

    def _text(self, member: Member) -> str | None:
        """The text of a member, white space stripped; None where it cannot be read."""
        if member.size > MOST_TEXT_BYTES:
            self._unreadable(member, TOO_LARGE)
            return None
        try:
            return decoded(self._reader.read(member.offset, member.size)).strip()
        except UnicodeDecodeError:
            self._unreadable(member, "not UTF-8")
            return None

    def _json(self, member: Member) -> dict[str, Any]:
        """The object of a JSON member; empty where it cannot be read."""
        text = self._text(member)
        if text is None:
            return {}
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            self._unreadable(member, "no JSON object")
            return {}
        label = next((value[key] for key in LABEL_KEYS if value.get(key) is not None), None)
        names = CAPTION_NAMES if self._columns is None else self._columns
        texts = {name: self._texts_of(value[name], name, member) for name in names if name in value}
        return {"label": self._label(label, member), "captions": texts}

    def _texts_of(self, value: Any, name: str, member: Member) -> tuple[str, ...]:
        try:
            return texts_of(value)
        except NoTextError as error:
            if self._columns is not None:  # else another key may be meant
                self._unreadable(member, f"{error} (key '{on_one_line(name)}')")
            return ()

    def _class(self, member: Member) -> dict[str, Any]:
        return {"label": self._label(self._text(member), member)}

    def _label(self, value: Any, member: Member) -> Label:
        """A label as an integer where it is one, else as a name; None without one."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str):
            value = value.strip()
            digits = value.removeprefix("-")
            value = int(value) if digits.isdecimal() and digits.isascii() and len(digits) < 19 else value
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, int | str):
            self._unreadable(member, "no class number or name")
            return None
        return str(value) if isinstance(value, int) and abs(value) >= _LARGEST_NUMBER else value

    # ------------------------------------------------------------ the samples

    def _samples(self) -> Samples:
        found = self._found
        result = Samples(columns=1 if self._columns is None else len(self._columns), found=found)
        for key, member in self._pictures.items():
            result.keys.append(key)
            result.offsets.append(member.offset)
            result.sizes.append(member.size)
            values = self._values.pop(key, {})
            labels = [values[kind]["label"] for kind in ("cls", "json") if values.get(kind)]
            result.labels.append(next((label for label in labels if label is not None), None))
            of_json = values.get("json", {}).get("captions", {})
            result.captions.append(self._captions(self._texts.pop(key, {}).get(TXT, ()), of_json))
        found.pictures = len(result.keys)
        for key in dict.fromkeys((*self._texts, *self._values)):
            found.lone += 1
            found.name("lone", key)
        return result

    def _captions(self, of_member: tuple[str, ...], of_json: dict[str, tuple[str, ...]]) -> Texts:
        if self._columns is None:
            found = (texts for name in CAPTION_NAMES if (texts := of_json.get(name)))
            return (of_member or next(found, ()),)
        return tuple((of_member if name == TXT else ()) or of_json.get(name, ()) for name in self._columns)
