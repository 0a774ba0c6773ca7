"""The limit of half precision: losses, norms and statistics are computed in 32 bits or more."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> Tensor:
    """Widen a tensor to float32 where it is narrower; float64 stays, so that tests can be exact."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Products on the tensor's device keep their inputs' type; the meta device never has autocast."""
    kind = tensor.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)
