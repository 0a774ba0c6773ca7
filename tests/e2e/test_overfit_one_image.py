"""The width study as users run it, in miniature: a Hydra multirun, then the tool that reads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unirae.core.io import read_json

ROOT = Path(__file__).parents[2]
SMALL = (
    "model.rae.image_size=32",
    "model.rae.encoder.architecture.image_size=32",
    "model.rae.encoder.architecture.hidden_size=32",
    "model.rae.encoder.architecture.num_attention_heads=2",
    "model.rae.encoder.architecture.intermediate_size=64",
    "model.rae.decoder.depth=1",
    "data.global_batch_size=8",
    "trainer.max_steps=300",
)


def run(*command: str | Path, cwd: Path) -> None:
    subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )


@pytest.mark.slow
def test_a_narrower_network_ends_higher(tmp_path):
    widths = "model.dit.hidden_size=16,48"
    run(
        ROOT / "src/train.py",
        "-m",
        "experiment=overfit_one_image",
        *SMALL,
        widths,
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
    )
    run(ROOT / "tools/width_study.py", "--runs", "sweep", "--output", "study", cwd=tmp_path)
    narrow, wide = read_json(tmp_path / "study/width_study.json")["runs"]
    assert (narrow["width"], narrow["dimension"], narrow["bound"]) == (16, 32, 0.5)
    assert (wide["width"], wide["bound"]) == (48, 0.0)
    assert narrow["loss"] > 0.49  # no training can get below the bound
    assert wide["loss"] < narrow["loss"] - 0.1
