"""Images that are to be scored as they are: nothing is replaced, resized or left out in silence."""

from typing import Any, Protocol

from jaxtyping import UInt8
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import Dataset

from unirae.core.arguments import argument
from unirae.core.errors import DataError
from unirae.data.decode import BadImageError
from unirae.data.readable import ReadableImages
from unirae.data.source import Sample, Source
from unirae.data.transforms import to_tensor


class SizedTransform(Protocol):
    """A picture to a tensor of one size, without chance."""

    size: tuple[int, int]

    def __call__(self, image: Image.Image, generator: Generator | None = None) -> UInt8[Tensor, "3 H W"]:
        """RGB in, uint8 RGB in [0, 255] out."""
        ...


class AsStored:
    """No crop: pictures must have the size (height, width) already."""

    def __init__(self, *, size: tuple[int, int]):
        self.size = size

    def __call__(self, image: Image.Image, generator: Generator | None = None) -> UInt8[Tensor, "3 H W"]:
        """Convert the picture.

        Raises:
            DataError: If the picture has another size.
        """
        if (image.height, image.width) != self.size:
            raise DataError(
                f"it has {image.height}×{image.width} px (height, width), the first has {self.size[0]}×{self.size[1]}; "
                f"images of different sizes are scored only after a crop as ADM's: {argument('size', 'N')}, or "
                f"{argument('size', 'HEIGHT WIDTH')}"
            )
        return to_tensor(image)


class StoredImages(Dataset[dict[str, Any]]):
    """Every picture of a source once, in its order: ``{"image": uint8 [3, H, W], "label": int, "index": int}``.

    Args:
        transform: by default pictures are taken as they are, and all must have the size of the first.
        replace_unreadable: show the next readable picture, whose ``index`` says so, instead of refusing a bad one.
    """

    def __init__(
        self, source: Source, *, transform: SizedTransform | None = None, replace_unreadable: bool = False
    ):
        if len(source) == 0:
            raise DataError(f"{source.name} has no images")
        self.source = source
        self._readable = ReadableImages(source) if replace_unreadable else None
        if transform is None:
            first = self._sample(0)[1].image
            transform = AsStored(size=(first.height, first.width))
        self.transform = transform

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one picture.

        Raises:
            DataError: If the picture cannot be read or has another size than the first; the message names it.
        """
        shown, sample = self._sample(index)
        try:
            image = self.transform(sample.image)
        except DataError as error:
            raise DataError(f"{self.name_of(shown)}: {error}") from None
        return {"image": image, "label": sample.label, "index": shown}

    def name_of(self, index: int) -> str:
        """The name of a picture: its file below a folder, else its number."""
        return self.source.name_of(index) or f"{self.source.name}, image {index}"

    def stem_of(self, index: int) -> str | None:
        """A file's path below its folder without its suffix; None where pictures have no names."""
        name = self.source.name_of(index)
        if name is None:
            return None
        folder, slash, file = name.rpartition("/")
        return folder + slash + file.rsplit(".", 1)[0]

    def _sample(self, index: int) -> tuple[int, Sample]:
        if self._readable is not None:
            return self._readable.first_from(index)
        try:
            return index, self.source[index]
        except BadImageError as error:
            raise DataError(
                f"{self.name_of(index)} cannot be read: {error}. Mend or remove it; a score needs every image"
            ) from None
