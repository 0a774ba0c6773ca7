"""``trainer.devices=2``: the command starts its second process itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from threads_at_exit import gloo_threads, observing
from tiny_training import TINY
from unirae.core.io import load_tensors

SOURCES = Path(__file__).parents[2] / "src"


def train(folder: Path, name: str, *overrides: str) -> dict[str, torch.Tensor]:
    subprocess.run(
        [
            sys.executable,
            SOURCES / "train.py",
            *TINY["stage1"],
            "trainer.max_steps=4",
            f"paths.output_dir={name}",
            *overrides,
        ],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": observing(folder / f"{name}-threads", SOURCES),
        },
        check=True,
        capture_output=True,
    )
    return load_tensors(folder / name / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.mark.slow
def test_two_devices_train_what_one_trains(tmp_path):
    one = train(tmp_path, "one")
    two = train(tmp_path, "two", "trainer.devices=2", "trainer.accelerator=cpu")
    for name, tensor in one.items():
        # float32: Adam turns rounding errors of vanishing gradients into steps of up to lr
        assert (two[name] - tensor).abs().mean() < 1e-5, name
    assert gloo_threads(tmp_path / "two-threads", processes=2) == set()
