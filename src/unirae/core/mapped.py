"""Tensors whose numbers lie in a file: memory holds of them what is being read."""

import mmap
import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor

from unirae.core.cache import cache_dir

_ALIGNMENT = 64
"""Bytes: what torch's own allocator aligns to."""


class MappedTensors:
    """Takes the numbers of ``tensors`` out of memory into an unnamed file, which is mapped in their place.

    The tensors are the same objects, and reading and writing them is as before; what is read comes from the file, or
    from the system's cache of it, which goes when memory is short. The file is gone with the process.

    Args:
        tensors: on the CPU, each filling a storage of its own (:func:`can_be_mapped`); what else looks at that storage
            goes on looking at the old numbers.

    Raises:
        OSError: If the file cannot be written; the tensors are unchanged then.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        starts = []
        with tempfile.TemporaryFile(dir=folder) as file:
            for tensor in tensors:
                file.seek(-file.tell() % _ALIGNMENT, 1)
                starts.append(file.tell())
                file.write(_bytes(tensor))
            file.flush()
            self._map = mmap.mmap(file.fileno(), 0)
        for tensor, start in zip(tensors, starts, strict=True):
            flat = torch.frombuffer(self._map, dtype=tensor.dtype, count=tensor.numel(), offset=start)
            tensor.data = flat.as_strided(tensor.shape, tensor.stride())

    def release(self) -> None:
        """Let go of what has been read into memory since."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)  # of a shared mapping: nothing written is lost


def can_be_mapped(tensor: Tensor) -> bool:
    """Say whether a tensor is a plain one on the CPU that fills a storage of its own, in whatever order."""
    return (
        type(tensor.data) is Tensor
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.numel() > 0
        and tensor.untyped_storage().nbytes() == tensor.nbytes
    )


def _bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor's storage, as they lie there."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy().data
