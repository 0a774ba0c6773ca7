"""The networks of FDr6 in miniature: folders of timm's with the right architectures, and moments for their features."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from unirae.metrics.frechet_ratio import SPACES, Space

WIDTH = 16
_VIT = {"embed_dim": WIDTH, "depth": 1, "num_heads": 2}
_CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, WIDTH]}
TIMM_SPACES = [space for space in SPACES if space.model is not None]


def tiny_model(space: Space, *, seed: int = 0) -> Any:
    """timm's own network of a space, with few random weights, before any option of ours."""
    import timm

    torch.manual_seed(seed)
    arguments = _CONVNEXT if space.pooling == "spatial" else _VIT
    model: Any = timm.create_model(str(space.model).split(".")[0], num_classes=3, **arguments)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.pretrained_cfg = {**model.pretrained_cfg, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
    return model.eval()


def write_weights(folder: Path, *, without: str | None = None) -> Path:
    """A folder for ``--fdr_weights``."""
    for space in TIMM_SPACES:
        if space.name != without:
            write_space(folder / space.name)
    return folder


def write_space(folder: Path, *, seed: int = 0) -> None:
    """The network of the space that the folder is called by, as timm saves it."""
    from timm.models._hub import save_for_hf

    (space,) = (space for space in TIMM_SPACES if space.name == folder.name)
    arguments = _CONVNEXT if space.pooling == "spatial" else _VIT
    save_for_hf(tiny_model(space, seed=seed), str(folder), model_args=arguments, safe_serialization=True)


def write_moments(folder: Path, *, without: str | None = None, width: int = WIDTH) -> Path:
    """A folder for ``--fdr_references``, as it is published."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, space in enumerate(SPACES):
        if space.name == without:
            continue
        size = 2048 if space.model is None else width
        random = np.random.RandomState(number)
        rows = random.randn(3 * WIDTH, size)
        prefix = "" if number % 2 else "ref_"
        arrays = {f"{prefix}mu": rows.mean(0), f"{prefix}sigma": np.cov(rows.T)}
        np.savez(folder / f"{space.statistics[0]}.npz", **arrays)
    return folder
