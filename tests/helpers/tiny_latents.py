"""An autoencoder and pictures in miniature, for what encodes a data set: 32 px, latents of 16 × 4 × 4."""

from typing import Any

import torch

from unirae.data.dataset import ImageDataset
from unirae.data.decode import BadImageError
from unirae.data.source import Sample
from unirae.data.synthetic import SyntheticSource
from unirae.data.transforms import AdmCropFlip, Transform
from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.build import build_encoder
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE

SHAPE = (16, 4, 4)
_ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}


class Pictures(SyntheticSource):
    """Synthetic pictures, some of which cannot be read."""

    def __init__(self, count: int = 45, bad: tuple[int, ...] = (), **options: Any):
        super().__init__(**{"split": "train", "image_size": 40, "train_count": count, "classes": 3} | options)
        self.bad = bad

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise BadImageError(f"file{index}.jpg: truncated")
        return super().__getitem__(index)


def pictures(
    count: int = 45, *, transform: Transform | None = None, seed: int = 0, **options: Any
) -> ImageDataset:
    transform = AdmCropFlip(size=32) if transform is None else transform
    return ImageDataset(source=Pictures(count, **options), transform=transform, seed=seed)


def some_stats(seed: int = 0) -> LatentStats:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(SHAPE, generator=generator)
    return LatentStats(mean=mean, var=torch.rand(SHAPE, generator=generator) + 0.1)


def tiny_rae(*, seed: int = 0, stats: LatentStats | None = None, input_size: int = 32) -> RAE:
    encoder = build_encoder(kind="mae", name="tiny", weights="random", architecture=_ENCODER, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        grid = (input_size // 8, input_size // 8)
        sizes = {"width": 16, "depth": 1, "num_heads": 2, "mlp_width": 32, "patch_size": 8}
        decoder = ViTDecoder(token_dim=16, grid=grid, **sizes)
    rae = RAE(encoder=encoder, decoder=decoder, encoder_input_size=input_size, stats=stats)
    return rae.eval().requires_grad_(False)
