"""Forward passes whose numbers may be reported: the same for every batch size, process count and precision.

Matrix kernels choose their summation order by shape, so a network's output for one image changes in the last
digits with the number of images beside it. Everything that ends in a reported score therefore runs in
chunks of :data:`NETWORK_CHUNK` images, and the caller's batch size never reaches a network (recipe, trap 3).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

NETWORK_CHUNK = 16
"""Images per forward pass: 16 × 256 tokens keep an accelerator busy, filling up the last chunk is cheap."""


FEATURE_CHUNK = 64
"""Images that are read for feature extractors at once, a multiple of what each of them sees: where a network costs
little for an image, the start of each pass counts."""


def rechunk(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in the same order, in chunks of ``size``; only the last may be shorter."""
    pending: list[Tensor] = []
    count = 0
    for batch in batches:
        pending.append(batch)
        count += len(batch)
        if count < size:
            continue
        rows = joined(pending)
        whole = count - count % size
        yield from rows[:whole].split(size)
        count -= whole
        pending = [rows[whole:]] if count else []
    if count:
        yield joined(pending)


def in_chunks(function: Callable[[Tensor], Tensor], rows: Tensor, size: int) -> Tensor:
    """Compute ``function(rows)`` on chunks of exactly ``size`` rows.

    The last chunk is filled up with copies of its first row, whose results are dropped.
    """
    results = []
    for chunk in rows.split(size):
        missing = size - len(chunk)
        if missing:
            filler = chunk[:1].expand(missing, *chunk.shape[1:])
            results.append(function(torch.cat([chunk, filler]))[: len(chunk)])
        else:
            results.append(function(chunk))
    return joined(results)


def joined(parts: list[Tensor], dim: int = 0) -> Tensor:
    """Join tensors by ``torch.cat``, without a copy where there is only one part."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """No gradient, no autocast; on CUDA no TF32 and deterministic kernels only."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            stack.enter_context(
                torch.backends.cudnn.flags(
                    enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                )
            )
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        yield
