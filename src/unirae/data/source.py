"""Interface of all sources of images, whatever they read from."""

import os
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from PIL import Image

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError, DataError

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Sample:
    """An RGB picture and its class; 0 where the source has no classes."""

    image: Image.Image
    label: int


class Source(Protocol):
    """Pictures by number, plus what identifies them. By default they have no names, and the fingerprint decides them.

    ``__getitem__`` raises :class:`~unirae.data.decode.BadImageError` for a picture that cannot be read.
    """

    name: str
    class_names: tuple[str, ...]
    """Empty where pictures have no labels."""
    fingerprint: dict[str, Any]
    """JSON-able: which data were asked for: path, split, count. What they hold, :meth:`content` says."""
    caption_weights: tuple[float, ...] = ()
    """How often each caption of a picture is drawn in training, adding up to 1; empty where there are no captions."""

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.class_names)

    def __len__(self) -> int:
        """Number of pictures."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Decode one picture."""
        ...

    def content(self, *, anew: bool = False) -> dict[str, Any]:
        """The fingerprint and an identity of the pictures themselves, JSON-able (:mod:`unirae.data.source_content`).

        Args:
            anew: look at the files again; else what was seen at the first call will do.
        """
        return self.fingerprint

    def captions_of(self, index: int) -> tuple[str, ...]:
        """The captions of a picture, one for each of :attr:`caption_weights`; "" for one that is missing."""
        return ("",) * len(self.caption_weights)

    def caption_weights_of(self, index: int) -> tuple[float, ...]:
        """How often each of a picture's captions is drawn, one for each of :meth:`captions_of`.

        They are the source's but for pictures that have more or fewer captions than others. Only those of captions that
        are there count, and what these add up to does not.
        """
        return self.caption_weights

    def name_of(self, index: int) -> str | None:
        """A picture's file below its folder; None where pictures have no names."""
        return None


class Captions(Protocol):
    """The captions of a source's pictures, by number."""

    @property
    def weights(self) -> tuple[float, ...]:
        """How often each caption of a picture is drawn; empty where no picture has captions."""
        ...

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of a picture; "" for one that is missing."""
        ...

    def weights_of(self, index: int) -> tuple[float, ...]:
        """How often each caption of a picture is drawn."""
        ...


class CaptionReading(Source, Protocol):
    """A source whose captions are read when they are first asked for: a run on labels never does."""

    @property
    def captions_read(self) -> Captions:
        """The captions; reads them at the first call."""
        ...

    @property
    def caption_weights(self) -> tuple[float, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How often each caption of a picture is drawn; empty where no picture has captions."""
        return self.captions_read.weights

    def captions_of(self, index: int) -> tuple[str, ...]:
        """The captions of a picture; "" for one that is missing."""
        return self.captions_read.captions(index)

    def caption_weights_of(self, index: int) -> tuple[float, ...]:
        """How often each caption of a picture is drawn."""
        return self.captions_read.weights_of(index)


@runtime_checkable
class EncodedSource(Protocol):
    """A source that decodes files, and can do so at a smaller size (:func:`~unirae.data.decode.read_rgb`)."""

    def reduced(self, index: int, at_least: tuple[int, int]) -> Sample:
        """Decode one picture, no smaller than (width, height) unless the file is."""
        ...


def check_split(split: str) -> None:
    """Refuse anything but ``train`` and ``val``."""
    if split not in ("train", "val"):
        raise ConfigError(f"split={split!r} is unknown; use 'train' or 'val'")


def require_data_dir(data_dir: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    """Return ``data_dir``, or say in an error how to set it."""
    if data_dir is None or not str(data_dir).strip():
        raise DataError(
            f"no data folder is given: set {argument('source.data_dir', '/path/to/data')} or export DATA_DIR"
        )
    return data_dir
