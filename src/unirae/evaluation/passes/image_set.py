"""Images with their labels as two tensors, for data sets that fit into memory."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from unirae.data.dataset import ImageDataset


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Images of one size; a label says what an image shows, or what it was meant to show."""

    images: UInt8[Tensor, "n 3 H W"]
    labels: Int64[Tensor, " n"]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images, but {len(self.labels)} labels")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, chosen: Tensor | slice) -> "LabelledImages":
        """Choose some of the images, with their labels."""
        return LabelledImages(images=self.images[chosen], labels=self.labels[chosen])

    def counts(self, num_classes: int) -> list[int]:
        """Number of images of each class."""
        return torch.bincount(self.labels, minlength=num_classes).tolist()


def read_all(dataset: ImageDataset) -> LabelledImages:
    """Read every image of ``dataset`` as it is in epoch 0."""
    samples = [dataset[i] for i in range(len(dataset))]
    return LabelledImages(
        images=torch.stack([sample["image"] for sample in samples]),
        labels=torch.tensor([sample["label"] for sample in samples]),
    )


def mislabelled(data: LabelledImages) -> LabelledImages:
    """The same images under each other's labels, so that (almost) every image has another class's.

    Each label keeps its number of images, so scores of the two sets rest on equal counts. All labels are wrong unless a
    class holds more than half of the images.
    """
    order = data.labels.argsort(stable=True)
    shift = int(torch.bincount(data.labels).max()) if len(data) else 0
    moved = torch.empty_like(data.labels)
    moved[order] = data.labels[order].roll(shift)
    return LabelledImages(images=data.images, labels=moved)
