"""Key of a sample: a picture's number and the epoch, from which its augmentation follows."""

import hashlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Number of a picture, and the epoch."""

    index: int
    epoch: int

    @classmethod
    def of(cls, key: "int | SampleKey") -> "SampleKey":
        """A key as it is; a plain number means epoch 0."""
        return key if isinstance(key, SampleKey) else cls(int(key), 0)


def derived_seed(seed: int, epoch: int, index: int) -> int:
    """A 64-bit seed that is a function of its three arguments alone."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def derived_share(seed: int, purpose: str, epoch: int, index: int) -> float:
    """A number in [0, 1) that is a function of its four arguments alone, evenly spread."""
    digest = hashlib.blake2b(f"{purpose}/{seed}/{epoch}/{index}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def sample_generator(seed: int, key: SampleKey) -> torch.Generator:
    """The source of all random draws of one sample's augmentation."""
    return torch.Generator().manual_seed(derived_seed(seed, key.epoch, key.index))
