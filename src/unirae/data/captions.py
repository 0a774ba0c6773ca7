"""Captions of pictures: which one a sample shows, and what becomes of pictures that have none."""

import hashlib
import json
from typing import Any, Literal

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, DataError
from unirae.core.log import get_logger
from unirae.data.sample_key import derived_share
from unirae.data.source import EncodedSource, Sample, Source, Split

log = get_logger(__name__)

_USE = {"train": "the network is trained on them", "val": "pictures and scores of a run are of them"}
MissingCaptions = Literal["null_prompt", "leave_out"]


def drawn_caption(source: Source, index: int, *, seed: int, epoch: int) -> str:
    """The caption that a picture has in an epoch: a function of (seed, epoch, index), by the picture's weights.

    Only captions that are there are drawn; "" where the picture has none.
    """
    there = [
        (caption, weight)
        for caption, weight in zip(source.captions_of(index), source.caption_weights_of(index), strict=True)
        if caption
    ]
    if len(there) < 2:
        return there[0][0] if there else ""
    left = derived_share(seed, "caption", epoch, index) * sum(weight for _, weight in there)
    for caption, weight in there:
        left -= weight
        if left < 0:
            return caption
    return there[-1][0]


class Captioned(Source):
    """A source of pictures with captions, of which it knows how many have none.

    Args:
        split: of a run, for the error: one without captions in its validation split would have no pictures and scores.
        missing: ``null_prompt`` shows a picture without captions with the caption ""; ``leave_out`` leaves it out.

    Raises:
        ConfigError: If ``missing`` is neither of its two values.
        DataError: If no picture has a caption.
    """

    def __init__(self, source: Source, *, missing: MissingCaptions, split: Split = "train") -> None:
        if missing not in ("null_prompt", "leave_out"):
            raise ConfigError(
                f"{argument('source.missing_captions', repr(missing))} is unknown; use 'null_prompt' or 'leave_out'"
            )
        self._source, self.name = source, source.name
        self.class_names, self.caption_weights = source.class_names, source.caption_weights
        captioned = [i for i in range(len(source)) if any(source.captions_of(i))]
        if not captioned:
            raise DataError(
                f"{source.name}: none of the {len(source)} pictures of the split {split!r} has a caption, and "
                f"{_USE[split]} (docs/data.md says where captions are looked for)"
            )
        lacking = len(source) - len(captioned)
        if lacking:
            what = "are left out" if missing == "leave_out" else "stand for the null prompt"
            log.warning(
                "%s: %d of %d pictures have no caption and %s", source.name, lacking, len(source), what
            )
        self._chosen = captioned if lacking and missing == "leave_out" else None
        self.fingerprint: dict[str, Any] = self._described(source.fingerprint)

    def content(self, *, anew: bool = False) -> dict[str, Any]:
        """The source's content and, where pictures are left out, how many stay and which."""
        return self._described(self._source.content(anew=anew))

    def name_of(self, index: int) -> str | None:
        """A picture's name in its source."""
        return self._source.name_of(self._number(index))

    def captions_of(self, index: int) -> tuple[str, ...]:
        """The captions of a picture."""
        return self._source.captions_of(self._number(index))

    def caption_weights_of(self, index: int) -> tuple[float, ...]:
        """How often each caption of a picture is drawn."""
        return self._source.caption_weights_of(self._number(index))

    def __len__(self) -> int:
        """Number of pictures that are not left out."""
        return len(self._source) if self._chosen is None else len(self._chosen)

    def __getitem__(self, index: int) -> Sample:
        """Decode one picture."""
        return self._source[self._number(index)]

    def reduced(self, index: int, at_least: tuple[int, int]) -> Sample:
        """Decode one picture, at a smaller size where the source can do so."""
        number = self._number(index)
        if isinstance(self._source, EncodedSource):
            return self._source.reduced(number, at_least)
        return self._source[number]

    def _number(self, index: int) -> int:
        return index if self._chosen is None else self._chosen[index]

    def _described(self, record: dict[str, Any]) -> dict[str, Any]:
        if self._chosen is None:
            return record
        numbers = hashlib.sha256(json.dumps(self._chosen).encode()).hexdigest()
        return {**record, "captioned_alone": len(self._chosen), "captioned_sha256": numbers}
