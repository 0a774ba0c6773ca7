"""Seams between the patches of decoded images: a decoder that trusts its tokens too much draws each patch by itself."""

import torch
from jaxtyping import UInt8
from torch import Tensor

from unirae.core.distributed import all_sum


class Seams:
    """Mean absolute step between neighbouring pixels across patch borders, over that inside patches; streaming.

    1 where borders do not show, also for real images; NaN where there is no border, or no step at all inside.

    Args:
        patch_size: side of a patch in pixels.
    """

    def __init__(self, patch_size: int, device: torch.device | str = "cpu") -> None:
        self._patch_size = patch_size
        self._sums = torch.zeros(
            4, dtype=torch.int64, device=device
        )  # steps across, their number, inside, number

    def update(self, images: UInt8[Tensor, "b 3 H W"]) -> None:
        """Add 8-bit images, whose steps are whole numbers, so sums are exact."""
        pixels = images.to(torch.int16)
        for axis in (-1, -2):
            steps = pixels.diff(dim=axis).abs().transpose(axis, -1)
            across = (torch.arange(steps.shape[-1], device=steps.device) + 1) % self._patch_size == 0
            for place, chosen in ((0, across), (2, ~across)):
                part = steps[..., chosen]
                self._sums[place] += part.sum()
                self._sums[place + 1] += part.numel()

    def compute(self) -> float:
        """The ratio over all images of all processes."""
        across, borders, inside, others = all_sum(self._sums).tolist()
        return (across / borders) / (inside / others) if borders and inside else float("nan")
