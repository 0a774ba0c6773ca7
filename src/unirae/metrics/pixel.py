"""Scores of single pairs of images, PSNR and SSIM, and their mean over a stream.

Every score here is **the mean over images of the per-image score**, on 8-bit images. (The PSNR of the mean
error over a whole set is another, lower number.)
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor
from torch.nn import functional

from unirae.core.distributed import all_sum
from unirae.core.errors import DataError
from unirae.core.exact import exact_float32
from unirae.core.images import to_float
from unirae.metrics.base import Estimate

PSNR_CEILING_DB = 100.0
"""PSNR of two equal images, which would be infinite and would make every mean infinite."""

PairScore = Callable[[UInt8[Tensor, "b 3 H W"], UInt8[Tensor, "b 3 H W"]], Tensor]


def psnr(a: UInt8[Tensor, "b 3 H W"], b: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, " b"]:
    """PSNR of each pair in dB, 10·log₁₀(255² / MSE); the error is summed in integers, hence exact."""
    squared_error = (a.int() - b.int()).square().flatten(1).sum(1)
    mse = squared_error.cpu().double() / a[0].numel()
    return (10.0 * torch.log10(255.0**2 / mse)).clamp_max(PSNR_CEILING_DB)


def _gaussian_window(size: int, sigma: float, like: Tensor) -> Tensor:
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return (weights / weights.sum()).to(like)


def ssim(a: UInt8[Tensor, "b 3 H W"], b: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, " b"]:
    """Structural similarity of each pair (Wang et al. 2004): 11×11 Gaussian window, σ = 1.5, range [0, 1].

    Each channel on its own, edges mirrored, mean over channels and places: torchmetrics' definition.
    (Wang's code leaves the edges out, which gives slightly other numbers.)
    """
    height, width = a.shape[-2:]
    if min(height, width) < 11:
        raise DataError(f"SSIM's window is 11×11 px; images of {height}×{width} px are too small for it")
    x, y = to_float(a).flatten(0, 1)[:, None], to_float(b).flatten(0, 1)[:, None]
    window = _gaussian_window(11, 1.5, x)
    x, y = (functional.pad(image, (5, 5, 5, 5), mode="reflect") for image in (x, y))
    maps = torch.cat([x, y, x * x, y * y, x * y])
    blurred = functional.conv2d(functional.conv2d(maps, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = blurred.chunk(5)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    variances = (mean_xx - mean_x**2).clamp_min(0.0) + (mean_yy - mean_y**2).clamp_min(0.0)
    structure = (2 * (mean_xy - mean_x * mean_y) + c2) / (variances + c2)
    return (luminance * structure).double().view(len(a), -1).mean(1)


class MeanOverImages:
    """Streaming mean of a per-pair score, summed in float64 over images and processes."""

    def __init__(
        self, *, name: str, score: PairScore, settings: dict[str, Any], device: torch.device | str = "cpu"
    ) -> None:
        self.name = name
        self.settings = settings
        self._score = score
        device = torch.device(device)
        self._state_device = torch.device("cpu") if device.type == "mps" else device  # Metal has no float64
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self._sums: Float64[Tensor, " 3"] = torch.zeros(3, dtype=torch.float64, device=self._state_device)

    def update(self, original: UInt8[Tensor, "b 3 H W"], reconstruction: UInt8[Tensor, "b 3 H W"]) -> None:
        """Add a batch of pairs."""
        with exact_float32(original.device):
            scores = self._score(original, reconstruction).to(self._state_device, torch.float64)
        self._sums += torch.stack(
            [scores.new_tensor(float(len(scores))), scores.sum(), scores.square().sum()]
        )

    def compute(self) -> Estimate:
        """The mean over all images of all processes.

        Raises:
            ValueError: If there were no images.
        """
        count, total, squares = all_sum(self._sums).tolist()
        if not count:
            raise ValueError(f"{self.name} has seen no images")
        mean = total / count
        variance = max(squares / count - mean * mean, 0.0)
        return Estimate(
            value=mean,
            standard_error=math.sqrt(variance / (count - 1)) if count > 1 else None,
            method="spread over images",
        )


def mean_psnr(device: torch.device | str = "cpu") -> MeanOverImages:
    """Metric ``psnr``: mean of per-image PSNR in dB."""
    settings = {
        "definition": "mean over images of 10 log10(255^2 / MSE), 8-bit RGB",
        "ceiling_db": PSNR_CEILING_DB,
    }
    return MeanOverImages(name="psnr", score=psnr, settings=settings, device=device)


def mean_ssim(device: torch.device | str = "cpu") -> MeanOverImages:
    """Metric ``ssim``: mean of per-image SSIM."""
    settings = {"definition": "mean over images, RGB, Gaussian window 11, sigma 1.5, mirrored edges"}
    return MeanOverImages(name="ssim", score=ssim, settings=settings, device=device)


def mean_distance(
    name: str,
    distance: Callable[[Tensor, Tensor], Tensor],
    settings: dict[str, Any],
    device: torch.device | str = "cpu",
) -> MeanOverImages:
    """Mean of a perceptual distance (LPIPS) that reads images in [0, 1] and gives one number per pair."""

    def score(original: Tensor, reconstruction: Tensor) -> Tensor:
        return distance(to_float(original), to_float(reconstruction))

    return MeanOverImages(name=name, score=score, settings=settings, device=device)
