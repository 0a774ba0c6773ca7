"""Substitutes for images that cannot be read: the next readable one, the same in every pass, counted and named."""

from collections.abc import Callable
from typing import Literal

import torch

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, DataError
from unirae.core.log import get_logger
from unirae.data.decode import BadImageError
from unirae.data.source import Sample, Source

log = get_logger(__name__)

_MAX_REPLACEMENTS = 1000
_MAX_LOGGED = 20


class ReadableImages:
    """The images of a source, of which each bad one is replaced by the next readable one.

    Args:
        decode: gives an image by its number; by default the source itself.
        on_bad_image: "replace" shows the next readable image instead, "error" stops.

    Raises:
        ConfigError: If ``on_bad_image`` is neither of its two values.
        DataError: If the source has no images.
    """

    def __init__(
        self,
        source: Source,
        *,
        decode: Callable[[int], Sample] | None = None,
        on_bad_image: Literal["replace", "error"] = "replace",
    ):
        if on_bad_image not in ("replace", "error"):
            raise ConfigError(
                f"{argument('dataset.on_bad_image', repr(on_bad_image))} is unknown; use 'replace' or 'error'"
            )
        if len(source) == 0:
            raise DataError(f"{source.name} has no images")
        self._source, self._on_bad_image = source, on_bad_image
        self._decode = source.__getitem__ if decode is None else decode
        # in shared memory, so that what a loader's worker finds is counted by the process that reports it
        self._is_bad = torch.zeros(len(source), dtype=torch.bool).share_memory_()

    @property
    def bad_image_count(self) -> int:
        """Different images found unreadable so far, in all workers of this process."""
        return int(self._is_bad.sum())

    def first_from(self, index: int) -> tuple[int, Sample]:
        """The first readable image at or after ``index``, wrapping around: the same one in every epoch.

        Raises:
            IndexError: If there is no image of that number.
            DataError: If the image is bad and none may take its place, or 1,000 in a row are bad.
        """
        count = len(self._source)
        if not 0 <= index < count:
            raise IndexError(f"image {index} of {count}")
        tries = min(count, _MAX_REPLACEMENTS)
        for candidate in ((index + step) % count for step in range(tries)):
            if self._is_bad[candidate]:
                continue
            try:
                return candidate, self._decode(candidate)
            except BadImageError as error:
                if self._on_bad_image == "error":
                    raise DataError(
                        f"{self._source.name}, image {candidate} is unreadable: {error}. Mend or remove it, "
                        f"or set {argument('dataset.on_bad_image', 'replace')}."
                    ) from error
                self._note(candidate, error)
        raise DataError(
            f"{self._source.name}: {tries} images in a row, from number {index}, are unreadable "
            f"({self.bad_image_count} of {count} so far). Check the data folder, or copy the data again."
        )

    def _note(self, index: int, error: BadImageError) -> None:
        self._is_bad[index] = True
        found = self.bad_image_count
        if found <= _MAX_LOGGED:
            log.warning(
                "%s: replaced unreadable image %d (%s); %d so far", self._source.name, index, error, found
            )
        if found == _MAX_LOGGED:
            log.warning("%s: further unreadable images are counted but not named", self._source.name)
