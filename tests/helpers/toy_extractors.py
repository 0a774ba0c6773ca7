"""Feature extractors in miniature, and metrics that use them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unirae.metrics.clip_score import PromptExtractor, Tokens
from unirae.metrics.extractors import POOLED, FeatureExtractor
from unirae.metrics.inception import LOGITS, SPATIAL
from unirae.metrics.moments import Moments
from unirae.metrics.set_metrics import encoder_metric
from unirae.metrics.statistics import SetStatistics, statistics_key


class MeanColour(FeatureExtractor):
    """Three features: the mean of each channel."""

    name = "colour"
    widths = {POOLED: 3}  # noqa: RUF012
    identity: dict[str, Any] = {"sha256": "0"}  # noqa: RUF012

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {POOLED: images.float().mean((2, 3))}


class Brightness(MeanColour):
    """One feature."""

    name = "brightness"
    widths = {POOLED: 1}  # noqa: RUF012

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {POOLED: images.float().mean((1, 2, 3))[:, None]}


class ToyInception(FeatureExtractor):
    """The three outputs of Inception from fixed random projections of 8×8 pixels: no network, quick."""

    name = "inception"
    widths = {POOLED: 12, SPATIAL: 7, LOGITS: 5}  # noqa: RUF012
    identity: dict[str, Any] = {"sha256": "toy"}  # noqa: RUF012

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.projection = torch.randn(192, sum(self.widths.values()), generator=generator) / 8

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        pixels = torch.nn.functional.interpolate(images.float() / 128 - 1, (8, 8), mode="area").flatten(1)
        rows = torch.tanh(pixels @ self.projection) * 3
        return dict(zip(self.widths, rows.split(list(self.widths.values()), 1), strict=True))


def gaussian(*, width: int = 3, variance: float = 1.0, extractor: str = "colour") -> dict[str, SetStatistics]:
    """Statistics of a standard normal distribution."""
    moments = Moments(
        count=0, mean=torch.zeros(width).double(), covariance=variance * torch.eye(width).double()
    )
    return {statistics_key(extractor, POOLED): SetStatistics(count=0, moments=moments)}


def colour_metric():
    return encoder_metric(MeanColour())


class ToyClip(PromptExtractor):
    """Mean colours of images, and three numbers of the first eight bytes of a text."""

    name = "clip"
    widths = {POOLED: 3}  # noqa: RUF012
    identity: dict[str, Any] = {"sha256": "toy"}  # noqa: RUF012
    device = torch.device("cpu")
    length = 8

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {POOLED: images.float().mean((2, 3)) - 50}

    def tokenise(self, prompts: Sequence[str]) -> Tokens:
        texts = [prompt.encode() for prompt in prompts]
        ids = torch.tensor([list(text[: self.length].ljust(self.length, b"\0")) for text in texts])
        return Tokens(ids=ids, mask=(ids > 0).long(), cut=sum(len(text) > self.length for text in texts))

    def of_tokens(self, ids: Tensor, mask: Tensor) -> Tensor:
        sums = ids @ torch.arange(1, self.length + 1)
        return torch.stack([sums % 11, ids[:, 0] % 7, sums % 5], 1) - 2.5
