"""Small pictures in files, and an extractor without a download that a user might have written."""

from pathlib import Path

import numpy as np
from PIL import Image

SCORE = "fd_toy_features"
"""Of the extractor that ``write_extractor`` writes."""
_EXTRACTOR = """
import torch


class Features(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed({seed})
        self.register_buffer("projection", torch.randn(48, 6, generator=generator))

    def forward(self, images):
        pixels = torch.nn.functional.interpolate(images.float() / 255, (4, 4), mode="area")
        return torch.tanh(pixels.flatten(1) @ self.projection)
"""


def write_extractor(folder: Path, *, seed: int = 0) -> str:
    """A module of six features in ``toy.py``; what ``--encoder`` calls it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.py").write_text(_EXTRACTOR.format(seed=seed))
    return f"{folder / 'toy.py'}:Features"


def pixels(count: int, *, seed: int = 0, size: int | tuple[int, int] = 16) -> np.ndarray:
    """A colour with some noise, uint8 [n, h, w, 3]; images of different seeds differ in what colours they have."""
    height, width = (size, size) if isinstance(size, int) else size
    strength = np.random.RandomState(seed).uniform(50, 200, 3)
    images = []
    for number in range(count):
        random = np.random.RandomState([seed, number])
        images.append(random.uniform(0, strength) + random.uniform(0, 55, (height, width, 3)))
    return np.stack(images).astype(np.uint8)


def write_folder(folder: Path, images: np.ndarray, *, suffix: str = "png", first: int = 0) -> Path:
    """One file each, by number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=first):
        Image.fromarray(image).save(folder / f"{number:04d}.{suffix}")
    return folder


def write_npz(file: Path, images: np.ndarray, **others: np.ndarray) -> Path:
    """ADM's layout."""
    np.savez(file, images, **others)
    return file
