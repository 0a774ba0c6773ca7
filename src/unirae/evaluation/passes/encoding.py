"""Views of images through a frozen network, the same numbers for every batch size and process count."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unirae.core.exact import NETWORK_CHUNK, exact_float32, in_chunks
from unirae.core.images import to_float
from unirae.evaluation.passes.reading import Precision


def encode_views(
    network: Callable[[Float[Tensor, "b 3 H W"]], Float[Tensor, "b c h w"]],
    images: UInt8[Tensor, "b v 3 H W"],
    *,
    device: torch.device,
    precision: Precision = "fp32",
) -> list[Float[Tensor, "b c h w"]]:
    """Encode each view in turn with ``network``, which lives on ``device``, in chunks of fixed size."""
    with inference_context(device, precision):
        views = images.to(device, non_blocking=True).unbind(1)
        return [in_chunks(network, to_float(view), NETWORK_CHUNK) for view in views]


@contextmanager
def inference_context(device: torch.device, precision: Precision) -> Iterator[None]:
    """No gradient; exact 32 bits, or autocast to 16."""
    if precision == "fp32":
        with exact_float32(device):
            yield
        return
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    with torch.no_grad(), torch.autocast(device.type, dtype=dtype):
        yield
