"""Tiny runs of stage 2 on captions."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tiny_text import text_encoder_folder
from tiny_training import tiny_config
from unirae.app.run.assembly import assemble
from unirae.training.csv_logger import read_metrics

STEPS = 4
PROMPTS = ["a red cat", "two dogs", "日本 😀", "a very long way to the sea, and back"]
QUIET = ("callbacks.generation_metrics.metrics=[]",)


def text_overrides(family="bert", *, folder=None, length=16):
    return (
        f"model.text_encoder.name={folder or text_encoder_folder(family)}",
        f"model.text_encoder.max_length={length}",
        "model.dit.conditioning=tokens",
    )


def run(
    folder,
    *overrides,
    checkpoint=None,
    callbacks=(),
    rae=None,
    photos=None,
    family="bert",
    words=None,
    data=None,
):
    """A run as the command makes it; ``words`` in place of a text encoder's overrides."""
    given = text_overrides(family) if words is None else words
    if rae is not None:
        given = (*given, f"model.rae.pretrained_decoder_path={rae}", "model.rae.decoder_weights=null")
    config = tiny_config(
        f"trainer.max_steps={STEPS}", *QUIET, *given, *overrides, output_dir=folder, stage="stage2"
    )
    config["changed_keys"] = []
    if photos is not None:
        config["data"]["source"] = {"_target_": "unirae.data.folder.FolderSource", "data_dir": str(photos)}
    config["data"].update(data or {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready = assemble(config, experiment="tiny", checkpoint=checkpoint)
        ready.trainer.callbacks.extend(callbacks)
        ready.fit()
    return ready


def losses(folder):
    return torch.tensor([float(row["train/loss"]) for row in read_metrics(folder / "csv/metrics.csv")])


def last(folder):
    return folder / "checkpoints/last.ckpt"


def write_photos(folder: Path) -> Path:
    """32 pictures, each with a text beside it but two."""
    for i in range(32):
        file = folder / f"train/{'ab'[i % 2]}/{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
        if i not in (3, 8):
            file.with_suffix(".txt").write_text(f"picture {i}\n")
    shutil.copytree(folder / "train", folder / "val")
    return folder
