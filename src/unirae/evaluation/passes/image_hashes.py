"""Hashes of a set's images, of the pixels of each, to find duplicates and to name the whole set."""

import hashlib

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from unirae.core.distributed import rows_of_all

Hashes = Int64[Tensor, " n"]
"""64 bits of each image: among a million images two different ones share one with a chance of 1 in 37 million."""


class HashCollector:
    """Streams the images of a set of ``count``, over all processes."""

    def __init__(self, count: int, *, device: torch.device | str = "cpu") -> None:
        self._hashes, self._device = torch.zeros(count, dtype=torch.int64), device

    def update(self, positions: Int64[Tensor, " b"], images: UInt8[Tensor, "b 3 H W"]) -> None:
        """Add the images that stand at these positions of the set."""
        self._hashes[positions.cpu()] = torch.tensor([_hash(image) for image in images.cpu()])

    def compute(self) -> Hashes:
        """Hashes of all images, the same in every process."""
        return rows_of_all(self._hashes, device=self._device)


def _hash(image: UInt8[Tensor, "3 H W"]) -> int:
    digest = hashlib.sha256(str(tuple(image.shape)).encode())  # which processors have instructions for
    digest.update(image.contiguous().numpy().data)
    return int.from_bytes(digest.digest()[:8], "big", signed=True)


def count_duplicates(hashes: Hashes) -> int:
    """Images that stand in the set more than once, each without its first occurrence."""
    return len(hashes) - len(hashes.unique())


def count_shared(hashes: Hashes, others: Hashes) -> int:
    """Images of the first set that stand in the second, too."""
    return int(torch.isin(hashes, others).sum())


def content_sha256(hashes: Hashes) -> str:
    """A name of the set, whatever the order of its images."""
    return hashlib.sha256(hashes.sort().values.numpy().tobytes()).hexdigest()
