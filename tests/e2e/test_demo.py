"""``unirae demo`` from nothing to the report, in seconds instead of minutes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unirae import load_dit, load_rae
from unirae.core.io import load_tensors, read_json
from unirae.training.csv_logger import read_metrics

pytestmark = pytest.mark.slow  # a minute and a half on two free cores: imports, evaluation and report, twice

STEPS = 4
QUICK = (
    f"trainer.max_steps={STEPS}",
    "trainer.log_every_n_steps=1",
    "trainer.precision=32-true",
    "data.global_batch_size=8",
    "data.num_workers=0",
    "model.scheduler.warmup_steps=1",
)
PARTS = ("encoder", "rae", "random_encoder", "dit")
SHORT = ("--classifier_epochs", "1", "--num_steps", "3")


def demo(folder: Path, *overrides: str) -> str:
    """What the command says on stderr."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "unirae",
            "demo",
            "--output_dir",
            "demo",
            *SHORT,
            "--override",
            *QUICK,
            *overrides,
        ],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def modified(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for part in PARTS for p in (folder / part).rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    demo(folder)
    return folder / "demo"


def test_everything_is_written(folder):
    for part in PARTS:
        assert load_tensors(folder / part / "checkpoints" / "last.ckpt")["global_step"] == STEPS
        assert len(read_metrics(folder / part / "csv" / "metrics.csv")) == STEPS
    scores = read_json(folder / "scores.json")
    rows = {row["key"]: row["scores"] for row in scores["rows"]}
    assert set(rows) == {"rae", "random_encoder", "mean_colour"}
    assert all(set(row) == {"psnr", "ssim", "rfd_mae"} for row in rows.values())
    assert scores["count"] > 150
    generated = {row["key"]: row["scores"] for row in scores["generation"]["rows"]}
    assert {"real", "samples", "noise", "mislabelled"} <= set(generated)
    assert all("classified" in row for row in generated.values())
    assert len(list((folder / "samples").glob("0*.png"))) == scores["count"]
    pictures = {path.stem for path in (folder / "pictures").glob("*.png")}
    assert {"samples", "nearest", "guidance", "denoising"} <= pictures
    report = (folder / "report.html").read_text()
    assert f"{rows['rae']['psnr']:.1f}" in report
    assert "data:image/png;base64," in report
    assert 'src="http' not in report
    assert list((folder / "pictures").glob("*.png"))


def test_the_trained_parts_can_be_loaded(folder):
    assert load_rae(folder / "rae").output_size == (64, 64)
    assert load_dit(folder / "dit").latent_shape == load_rae(folder / "dit").latent_shape
    assert (folder / "encoder" / "unirae.json").is_file()


def test_a_second_run_reuses_what_is_finished(folder):
    before = modified(folder)
    said = demo(folder.parent)
    assert said.count("already trained") == len(PARTS)
    assert modified(folder) == before
