"""What names a sample: a picture's number and the epoch, from which its augmentation follows."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Which picture, and in which epoch."""

    index: int
    epoch: int


def derived_seed(seed: int, epoch: int, index: int) -> int:
    """A 64-bit seed that is a function of its three arguments alone."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
