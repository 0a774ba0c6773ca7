"""Tiny runs as ``src/train.py`` makes them, on a device."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from tiny_training import TINY
from unirae.app.config.composition import compose
from unirae.app.run.assembly import assemble
from unirae.core.io import load_tensors
from unirae.training.csv_logger import read_metrics
from unirae.training.manual import ManualModule

STEPS = 5
GAN = ("model.disc_upd_start_step=0", "model.disc_start_step=0")
PATCHGAN = ("model.discriminator.", "model.perceptual.")
"""Options that the other discriminator and perceptual net do not have."""
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "stage 1": ("stage1", GAN),
    "stage 1, DINO and LPIPS": (
        "stage1",
        (
            *GAN,
            "model/discriminator=dino",
            "model.discriminator.weights=random",
            "model.discriminator.width=64",
            "model.discriminator.depth=4",
            "model.discriminator.num_heads=2",
            "model.discriminator.input_size_px=64",
            "model.discriminator.key_depths=[0,1,3]",
            "model/perceptual=lpips",
            "~model.perceptual.layers",
            "model.perceptual.weights=random",
        ),
    ),
    "stage 2": ("stage2", ()),
    "stage 2, cached": ("stage2", ("callbacks.generation_metrics.metrics=[]",)),
    "stage 0": ("mae", ()),
    "linear probe": ("linear_probe", ()),
}


def train(
    folder: Path,
    case: str,
    device: torch.device,
    *overrides: str,
    checkpoint: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> ManualModule:
    """A run of a few steps; its files are in ``folder``."""
    stage, own = CASES[case]
    if "cached" in case:
        own = (*own, f"data.latent_cache={folder}/latents")
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    given = (f"trainer.accelerator={accelerator}", "trainer.devices=1", f"trainer.max_steps={STEPS}")
    tiny = [one for one in TINY[stage] if "DINO" not in case or not one.startswith(PATCHGAN)]
    config: dict[str, Any] = compose([*tiny, f"paths.output_dir={folder}", *given, *own, *overrides])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = assemble(config, experiment="tiny", checkpoint=checkpoint)
        run.trainer.callbacks.extend(callbacks)  # pyright: ignore[reportAttributeAccessIssue]
        run.fit()
    return run.module


def terms(folder: Path) -> dict[str, torch.Tensor]:
    """What was logged of each step, but times."""
    rows = read_metrics(folder / "csv" / "metrics.csv")
    names = [name for name in rows[0] if name.startswith("train/") and not name.endswith("_s")]
    return {name: torch.tensor([float(row[name] or math.nan) for row in rows]) for name in names}


def saved(folder: Path) -> dict[str, Any]:
    """Weights and the optimizers' states of the last checkpoint."""
    content = load_tensors(folder / "checkpoints" / "last.ckpt")
    return {key: content[key] for key in ("state_dict", "optimizer_states")}
