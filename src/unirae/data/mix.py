"""A mix of data sets under one numbering and one list of classes; :mod:`unirae.data.mix_order` draws from it."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar

from torch.utils.data import Dataset

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.data.mix_order import Share
from unirae.data.sample_key import SampleKey
from unirae.data.source import EncodedSource, Sample, Source


class Part(Protocol):
    """A data set that can be a part of a mix: images, or latents from a cache."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, key: Any, /) -> dict[str, Any]:
        """A sample by :class:`~unirae.data.sample_key.SampleKey`, with its ``label`` and ``index``."""
        ...


P = TypeVar("P", bound=Part)


@dataclass(frozen=True, kw_only=True)
class MixPart(Generic[P]):
    """A part of a mix.

    Attributes:
        name: unique in the mix.
        weight: its share of the steps, in proportion to the other weights.
        data: its samples, numbered and labelled as if it were alone.
    """

    name: str
    weight: float
    data: P


@dataclass(frozen=True, kw_only=True)
class JoinedClasses:
    """The classes of several sources as one list.

    Attributes:
        names: of all classes, those of the first source first; a class that several have stands once.
        numbers: for each source the number that each of its classes has here.
    """

    names: tuple[str, ...]
    numbers: tuple[tuple[int, ...], ...]


def join_classes(classes: Mapping[str, Sequence[str]], *, labels: bool = True) -> JoinedClasses:
    """Join the classes of sources by name.

    Args:
        classes: the class names of each source, by the source's name.
        labels: false leaves all pictures without classes.

    Raises:
        ConfigError: If some sources have labels and others have none, or two have a class of the same number without a
            name.
    """
    if not labels:
        return JoinedClasses(names=(), numbers=((),) * len(classes))
    without = [name for name, names in classes.items() if not names]
    if without and len(without) < len(classes):
        labelled = next(name for name, names in classes.items() if names)
        raise ConfigError(
            f"the sources of a mix have labels all or none, and {', '.join(without)} has none while {labelled} has "
            f"{len(classes[labelled])} classes: set {argument('mix.labels', False)}, or leave one or the other out"
        )
    _check_numbers(classes)
    joined = tuple(dict.fromkeys(name for names in classes.values() for name in names))
    places = {name: number for number, name in enumerate(joined)}
    return JoinedClasses(
        names=joined, numbers=tuple(tuple(places[name] for name in names) for names in classes.values())
    )


def _check_numbers(classes: Mapping[str, Sequence[str]]) -> None:
    """Refuse a number that is a class of two sources: 3 may be a dog in one and a truck in the other.

    Raises:
        ConfigError: If there is one.
    """
    firsts: dict[str, str] = {}
    for source, names in classes.items():
        for number in (name for name in names if name.removeprefix("-").isdecimal()):
            if (first := firsts.setdefault(number, source)) != source:
                raise ConfigError(
                    f"{first} and {source} both have a class {number}, and a number does not tell whether it is the "
                    "same class: give the classes names (tar shards by classes.json, Hugging Face data by a ClassLabel "
                    f"column, folders by their own), or set {argument('mix.labels', False)}"
                )


class Relabelled(Source):
    """A source whose classes are some of a longer list, or none.

    What it holds, its ``content``, is that of the source: the pictures and their classes by name are the same.

    Args:
        class_names: of all classes, those of ``source`` among them; empty leaves the pictures without labels.
    """

    def __init__(self, source: Source, class_names: tuple[str, ...]) -> None:
        self._source, self.name, self.class_names = source, source.name, class_names
        self.fingerprint = source.fingerprint
        places = {name: number for number, name in enumerate(class_names)}
        self._numbers = tuple(places[name] for name in source.class_names) if class_names else ()

    def content(self, *, anew: bool = False) -> dict[str, Any]:
        """The content of the source."""
        return self._source.content(anew=anew)

    @property
    def caption_weights(self) -> tuple[float, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How often each caption of a picture is drawn: a source may read its captions for this, so only when asked."""
        return self._source.caption_weights

    def name_of(self, index: int) -> str | None:
        """A picture's name in the source."""
        return self._source.name_of(index)

    def captions_of(self, index: int) -> tuple[str, ...]:
        """The captions of a picture."""
        return self._source.captions_of(index)

    def caption_weights_of(self, index: int) -> tuple[float, ...]:
        """How often each caption of a picture is drawn."""
        return self._source.caption_weights_of(index)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        """Decode one picture."""
        return self._relabelled(self._source[index])

    def reduced(self, index: int, at_least: tuple[int, int]) -> Sample:
        """Decode one picture, at a smaller size where the source can do so."""
        if isinstance(self._source, EncodedSource):
            return self._relabelled(self._source.reduced(index, at_least))
        return self[index]

    def _relabelled(self, sample: Sample) -> Sample:
        return replace(sample, label=self._numbers[sample.label] if self._numbers else 0)


class MixedSource(Source):
    """The pictures of several sources, numbered through, with the classes of all.

    Args:
        sources: by their names in the mix.
        labels: false leaves all pictures without classes.

    Raises:
        ConfigError: See :func:`join_classes`.
    """

    def __init__(self, sources: Mapping[str, Source], *, labels: bool = True) -> None:
        self.names, self.name = tuple(sources), f"mix of {', '.join(sources)}"
        joined = join_classes({name: one.class_names for name, one in sources.items()}, labels=labels)
        self.class_names, self.numbers = joined.names, joined.numbers
        self.sources = tuple(sources.values())
        """As they are alone, with their own classes."""
        self._relabelled = [Relabelled(one, joined.names) for one in self.sources]
        self._firsts = [0, *accumulate(map(len, self.sources))]
        self.fingerprint: dict[str, Any] = {
            "source": "mix",
            "sources": {name: one.fingerprint for name, one in sources.items()},
        }

    def content(self, *, anew: bool = False) -> dict[str, Any]:
        """The contents of all sources by their names."""
        contents = (one.content(anew=anew) for one in self.sources)
        return {"source": "mix", "sources": dict(zip(self.names, contents, strict=True))}

    @cached_property
    def caption_weights(self) -> tuple[float, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Equal weights, as many as the source with the most has: each source draws by its own.

        A source may read its captions for this, so only when asked.
        """
        most = max(len(one.caption_weights) for one in self.sources)
        return (1 / most,) * most if most else ()

    def name_of(self, index: int) -> str | None:
        """A picture's name, behind that of its source."""
        source, number = self.place(index)
        name = self.sources[source].name_of(number)
        return None if name is None else f"{self.names[source]}/{name}"

    def captions_of(self, index: int) -> tuple[str, ...]:
        """The captions of a picture, and "" for those that only other sources have."""
        source, number = self.place(index)
        own = self.sources[source].captions_of(number)
        return (*own, *("",) * (len(self.caption_weights) - len(own)))

    def caption_weights_of(self, index: int) -> tuple[float, ...]:
        """How often each caption of a picture is drawn, by its own source; 0 for those that only others have."""
        source, number = self.place(index)
        own = self.sources[source].caption_weights_of(number)
        return (*own, *(0.0,) * (len(self.caption_weights) - len(own)))

    def place(self, index: int) -> tuple[int, int]:
        """The number of a picture's source, and the picture's number in it."""
        return _place(self._firsts, index)

    def __len__(self) -> int:
        """Number of pictures in all sources."""
        return self._firsts[-1]

    def __getitem__(self, index: int) -> Sample:
        """Decode one picture."""
        source, number = self.place(index)
        return self._relabelled[source][number]

    def reduced(self, index: int, at_least: tuple[int, int]) -> Sample:
        """Decode one picture, at a smaller size where its source can do so."""
        source, number = self.place(index)
        return self._relabelled[source].reduced(number, at_least)


class Mixed(Dataset[dict[str, Any]], Generic[P]):
    """The samples of several data sets, numbered through, each read and transformed as by its own.

    Samples are those of the parts; their ``index`` and ``label`` are those of the mix.

    Args:
        parts: images, or latents from caches.
        source: the pictures behind them, in the same order.
        scored: the number of the part that validation, statistics of latents and scores are of.
    """

    def __init__(self, parts: Sequence[MixPart[P]], *, source: MixedSource, scored: int) -> None:
        self.parts, self.source, self.scored_part = tuple(parts), source, parts[scored]
        self.class_names = source.class_names
        self._firsts = [0, *accumulate(len(part.data) for part in self.parts)]

    @property
    def shares(self) -> list[Share]:
        """The parts as the order of training takes them."""
        return [Share(name=part.name, count=len(part.data), weight=part.weight) for part in self.parts]

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.class_names)

    def __len__(self) -> int:
        """Number of samples in all parts."""
        return self._firsts[-1]

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """One sample; ``index`` is that of the image shown, also where it replaces a bad one."""
        key = SampleKey.of(key)
        number, index = _place(self._firsts, key.index)
        sample = self.parts[number].data[SampleKey(index, key.epoch)]
        classes = self.source.numbers[number]
        return {
            **sample,
            "label": classes[sample["label"]] if classes else 0,
            "index": self._firsts[number] + sample["index"],
        }


def _place(firsts: list[int], index: int) -> tuple[int, int]:
    """The part that a number of the whole falls into, and the number in it."""
    if not 0 <= index < firsts[-1]:
        raise IndexError(f"image {index} of {firsts[-1]}")
    part = bisect_right(firsts, index) - 1
    return part, index - firsts[part]
