"""A source and a transform as a torch data set that survives corrupt images."""

from typing import Any, Literal

import torch
from torch.utils.data import Dataset

from unirae.core.errors import ConfigError, DataError
from unirae.core.log import get_logger
from unirae.data.decode import BadImageError
from unirae.data.sampler import SampleKey, sample_generator
from unirae.data.source import EncodedSource, Sample, Source
from unirae.data.transforms import Transform

log = get_logger(__name__)

_MAX_REPLACEMENTS = 1000
_MAX_LOGGED = 20


class ImageDataset(Dataset[dict[str, Any]]):
    """Samples ``{"image": uint8 [3, H, W], "label": int, "index": int}`` by number or :class:`SampleKey`.

    The transform's generator is seeded from (seed, epoch, index), so augmentation does not depend on
    workers, batches, or where a run was resumed. A plain number means epoch 0.
    """

    def __init__(
        self,
        *,
        source: Source,
        transform: Transform,
        seed: int = 0,
        on_bad_image: Literal["replace", "error"] = "replace",
        fast_decode: bool = False,
    ):
        """Join them.

        Args:
            on_bad_image: "replace" shows the next readable image instead, "error" stops.
            fast_decode: decode large JPEGs at a smaller size that is still at least twice what the transform asks for.
        """
        if on_bad_image not in ("replace", "error"):
            raise ConfigError(f"data.on_bad_image={on_bad_image!r} is unknown; use 'replace' or 'error'")
        if len(source) == 0:
            raise DataError(f"{source.name} has no images")
        self.source = source
        self.transform, self.seed = transform, seed
        self._on_bad_image, self.fast_decode = on_bad_image, fast_decode
        # in shared memory, so that what a loader's worker finds is counted by the process that reports it
        self._is_bad = torch.zeros(len(source), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        """Images in the source, good and bad."""
        return len(self.source)

    @property
    def bad_image_count(self) -> int:
        """Different images found unreadable so far, in all workers of this process."""
        return int(self._is_bad.sum())

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """``index`` is that of the image shown, also where it replaces a bad one."""
        key = SampleKey.of(key)
        shown, sample = self.readable_from(key.index)
        image = self.transform(sample.image, sample_generator(self.seed, key))
        return {"image": image, "label": sample.label, "index": shown}

    def readable_from(self, index: int) -> tuple[int, Sample]:
        """The first readable image at or after ``index``, wrapping around: the same one in every epoch."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        tries = min(len(self), _MAX_REPLACEMENTS)
        for candidate in ((index + step) % len(self) for step in range(tries)):
            if self._is_bad[candidate]:
                continue
            try:
                return candidate, self._decode(candidate)
            except BadImageError as error:
                if self._on_bad_image == "error":
                    raise DataError(
                        f"{self.source.name}, image {candidate} is unreadable: {error}. Mend or remove it, "
                        "or set data.on_bad_image=replace."
                    ) from error
                self._note(candidate, error)
        raise DataError(
            f"{self.source.name}: {tries} images in a row, from number {index}, are unreadable "
            f"({self.bad_image_count} of {len(self)} so far). Check the data folder, or copy the data again."
        )

    def _decode(self, index: int) -> Sample:
        if self.fast_decode and isinstance(self.source, EncodedSource):
            return self.source.reduced(index, at_least=self.transform.least_size)
        return self.source[index]

    def _note(self, index: int, error: BadImageError) -> None:
        self._is_bad[index] = True
        count = self.bad_image_count
        if count <= _MAX_LOGGED:
            log.warning(
                "%s: replaced unreadable image %d (%s); %d so far", self.source.name, index, error, count
            )
        if count == _MAX_LOGGED:
            log.warning("%s: further unreadable images are counted but not named", self.source.name)
