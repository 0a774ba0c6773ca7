"""One picture under many numbers, which a network that is large enough must be able to learn by heart.

Random draws in training are keyed by a sample's number, so each of its copies gets noise and a time of its own.
"""

import hashlib
from typing import Any

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.data.emoji import EmojiSource
from unirae.data.source import Sample, Source, Split, check_split
from unirae.data.source_content import without_times


class OneImageSource(Source):
    """Picture ``index`` of a source, ``count`` times; both splits show the same one."""

    name = "one_image"

    def __init__(self, *, split: Split, index: int = 0, count: int = 256, of: Source | None = None):
        """``of``: the source that the picture is from; None means the bundled emoji for training."""
        check_split(split)
        of = EmojiSource(split="train") if of is None else of
        if not 0 <= index < len(of):
            raise ConfigError(f"{argument('source.index', index)}: {of.name} has pictures 0 to {len(of) - 1}")
        if count < 1:
            raise ConfigError(f"{argument('source.count', count)} must be at least 1")
        self._sample, self._count, self._of = of[index], count, without_times(of.content())
        self._source, self._index = of, index
        self.class_names = of.class_names
        self.fingerprint: dict[str, Any] = {
            "source": self.name,
            "of": of.fingerprint,
            "index": index,
            "count": count,
        }

    def content(self, *, anew: bool = False) -> dict[str, Any]:
        """The fingerprint, with the pixels of the picture: it is in memory, whatever becomes of its file."""
        image = self._sample.image
        pixels = f"{image.size}".encode() + image.tobytes()
        return {**self.fingerprint, "of": self._of, "sha256": hashlib.sha256(pixels).hexdigest()}

    @property
    def caption_weights(self) -> tuple[float, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How often each of the picture's captions is drawn; asked of its source, which may read files for it."""
        return self._source.caption_weights

    def captions_of(self, index: int) -> tuple[str, ...]:
        """The picture's captions, the same for every copy."""
        return self._source.captions_of(self._index)

    def caption_weights_of(self, index: int) -> tuple[float, ...]:
        """How often each of the picture's captions is drawn."""
        return self._source.caption_weights_of(self._index)

    def __len__(self) -> int:
        """Number of copies."""
        return self._count

    def __getitem__(self, index: int) -> Sample:
        """Read the picture."""
        if not 0 <= index < self._count:
            raise IndexError(f"picture {index} of {self._count}")
        return self._sample
