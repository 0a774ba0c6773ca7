"""All views of each image, for a single pass through the data for all epochs."""

from typing import Any

import torch
from torch.utils.data import Dataset

from unirae.data.dataset import ImageDataset
from unirae.data.sample_key import SampleKey
from unirae.data.transforms import ViewTransform, settings_of


class AllViews(Dataset[dict[str, Any]]):
    """Samples ``{"images": uint8 [v, 3, H, W], "label": int, "index": int}``, one per image of ``dataset``.

    A transform without countable views has one here: what it draws in epoch 0.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset
        transform = dataset.transform
        self._finite = transform if isinstance(transform, ViewTransform) else None
        self.view_weights = self._finite.view_weights if self._finite else (1.0,)

    @property
    def description(self) -> dict[str, Any]:
        """Description of how the views come about, ready for JSON."""
        decoding = {"fast_decode": True} if self._dataset.fast_decode else {}
        if self._finite:
            return {**self._finite.settings, **decoding, "view_weights": list(self.view_weights)}
        transform = self._dataset.transform
        resizing = {"fast": True} if transform.fast else {}
        return {
            "name": type(transform).__name__,
            **settings_of(transform),
            **resizing,
            **decoding,
            "drawn_with_seed": self._dataset.seed,
        }

    def __len__(self) -> int:
        """Number of images."""
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample in one of its views; ``index`` is that of the image shown, also where it replaces a bad one."""
        if self._finite is None:
            sample = self._dataset[SampleKey(index, 0)]
            return {"images": sample["image"][None], "label": sample["label"], "index": sample["index"]}
        shown, sample = self._dataset.readable_from(index)
        images = [self._finite.render(sample.image, view) for view in range(self._finite.views)]
        return {"images": torch.stack(images), "label": sample.label, "index": shown}
