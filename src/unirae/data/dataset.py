"""A source and a transform as a torch data set that survives corrupt images."""

from typing import Any, Literal

from torch.utils.data import Dataset

from unirae.data.captions import drawn_caption
from unirae.data.readable import ReadableImages
from unirae.data.sample_key import SampleKey, sample_generator
from unirae.data.source import EncodedSource, Sample, Source
from unirae.data.transforms import Transform


class ImageDataset(Dataset[dict[str, Any]]):
    """Samples ``{"image": uint8 [3, H, W], "label": int, "index": int}`` by number or :class:`SampleKey`.

    With ``captions`` each has a ``"caption"``, too, drawn by (seed, epoch, index) where a picture has several.

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
        captions: bool = False,
    ):
        """Join a source and a transform.

        Args:
            on_bad_image: "replace" shows the next readable image instead, "error" stops.
            fast_decode: decode large JPEGs at a smaller size that is still at least twice what the transform asks for.
            captions: give the captions, too.
        """
        self.source = source
        self.transform, self.seed = transform, seed
        self.fast_decode, self.captions = fast_decode, captions
        self._on_bad_image: Literal["replace", "error"] = on_bad_image
        self._readable = ReadableImages(source, decode=self._decode, on_bad_image=on_bad_image)

    def with_source(self, source: Source) -> "ImageDataset":
        """The same data set of another source."""
        return ImageDataset(
            source=source,
            transform=self.transform,
            seed=self.seed,
            on_bad_image=self._on_bad_image,
            fast_decode=self.fast_decode,
            captions=self.captions,
        )

    def __len__(self) -> int:
        """Images in the source, good and bad."""
        return len(self.source)

    @property
    def bad_image_count(self) -> int:
        """Different images found unreadable so far, in all workers of this process."""
        return self._readable.bad_image_count

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """One sample; ``index`` is that of the image shown, also where it replaces a bad one."""
        key = SampleKey.of(key)
        shown, sample = self.readable_from(key.index)
        image = self.transform(sample.image, sample_generator(self.seed, key))
        found = {"image": image, "label": sample.label, "index": shown}
        if self.captions:
            found["caption"] = drawn_caption(self.source, shown, seed=self.seed, epoch=key.epoch)
        return found

    def readable_from(self, index: int) -> tuple[int, Sample]:
        """The first readable image at or after ``index``, wrapping around: the same one in every epoch."""
        return self._readable.first_from(index)

    def _decode(self, index: int) -> Sample:
        if self.fast_decode and isinstance(self.source, EncodedSource):
            return self.source.reduced(index, at_least=self.transform.least_size)
        return self.source[index]
