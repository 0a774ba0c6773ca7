"""``unirae demo`` from nothing to the report, in small."""

import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from unirae import load_dit, load_rae
from unirae.core.io import load_tensors, read_json, write_json
from unirae.training.csv_logger import read_metrics

pytestmark = pytest.mark.slow  # minutes on two free cores: imports, evaluation and report, three times

STEPS = 4
QUICK = (
    f"trainer.max_steps={STEPS}",
    "trainer.log_every_n_steps=1",
    "trainer.precision=32-true",
    "data.global_batch_size=8",
    "data.num_workers=0",
    "model.scheduler.warmup_steps=1",
    "callbacks.samples.count=2",  # encoder: unused; rae and dit: pictures while training
    "dit:callbacks.generation_metrics.num_samples=8",
    "dit:callbacks.samples.num_steps=3",
)
PARTS = ("encoder", "rae", "dit")
PICTURES = ("reconstructions", "samples", "guidance", "denoising", "nearest", "curves_dit")


def run_demo(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    options = ["--output_dir", "demo", "--num_steps", "3", "--classifier_epochs", "1"]
    return subprocess.run(
        [sys.executable, "-m", "unirae", "demo", *options, "--override", *QUICK, *overrides],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )


def demo(folder: Path, *overrides: str) -> str:
    """What the command says on stderr."""
    done = run_demo(folder, *overrides)
    assert done.returncode == 0, done.stderr
    return done.stderr


def modified(folder: Path) -> dict[str, int]:
    """When each file was written that a second run has no reason to write."""
    kept = [p for part in (*PARTS, "samples") for p in (folder / part).rglob("*") if p.is_file()]
    kept += [folder / "classifier.pt", *(folder / f"pictures/{name}.png" for name in PICTURES[1:5])]
    return {str(p): p.stat().st_mtime_ns for p in kept}


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
    assert set(rows) == {"rae", "mean_colour"}
    assert all(set(row) == {"psnr", "ssim", "rfd_mae"} for row in rows.values())
    assert scores["count"] > 150
    assert set(scores["seconds"]) == {*PARTS, "classifier", "samples", "pictures"}
    report = (folder / "report.html").read_text()
    assert f"{rows['rae']['psnr']:.1f}" in report
    assert "data:image/png;base64," in report
    assert 'src="http' not in report
    assert all((folder / f"pictures/{name}.png").is_file() for name in PICTURES)


def test_samples_are_scored_beside_what_they_compare_with(folder):
    generation = read_json(folder / "scores.json")["generation"]
    rows = {row["key"]: row["scores"] for row in generation["rows"]}
    assert list(rows) == ["real", "reconstructed", "samples", "noise", "mislabelled"]
    for key, row in rows.items():
        assert set(row) == {"fd_mae", "fd_mae_within_class", "classified"} - (
            {"fd_mae"} if key == "mislabelled" else set()
        )
    # what holds whatever was trained: real pictures are like real pictures, noise is not
    assert rows["real"]["fd_mae"] < rows["noise"]["fd_mae"]
    assert rows["real"]["fd_mae_within_class"] < rows["mislabelled"]["fd_mae_within_class"]
    assert sum(generation["class_counts"]) == generation["count"]
    confusion = generation["classifier"]["confusion"]
    assert [sum(row) for row in confusion["samples"]] == generation["class_counts"]
    assert generation["sampler"]["num_steps"] == 3
    pngs = sorted((folder / "samples").glob("0*.png"))
    assert len(pngs) == generation["count"]


def test_the_reports_command_gives_the_reports_distance(folder):
    (line,) = re.findall(r"<pre>python src/evaluate.py (.*?)</pre>", (folder / "report.html").read_text())
    words = [*shlex.split(html.unescape(line)), "--output", "again.json", "--device", "cpu"]
    subprocess.run([sys.executable, "-m", "unirae", "evaluate", *words], cwd=folder.parent, check=True)
    rows = {row["key"]: row["scores"] for row in read_json(folder / "scores.json")["generation"]["rows"]}
    again = read_json(folder.parent / "again.json")["metrics"]
    assert again["fd_mae"] == pytest.approx(rows["samples"]["fd_mae"], rel=1e-3)


def test_the_trained_parts_can_be_loaded(folder):
    assert load_rae(folder / "rae").output_size == (64, 64)
    assert load_dit(folder / "dit").num_classes == 9
    assert (folder / "encoder" / "unirae.json").is_file()


def test_a_second_run_reuses_what_is_finished(folder):
    before = modified(folder)
    said = demo(folder.parent)
    assert said.count("already trained") == len(PARTS) + 1  # and the classifier
    assert modified(folder) == before


def test_samples_that_were_interrupted_are_completed_and_stale_ones_made_anew(folder):
    samples = folder / "samples"
    missing, kept = samples / "000180.png", samples / "000000.png"
    content, written = missing.read_bytes(), kept.stat().st_mtime_ns
    missing.unlink()
    demo(folder.parent)
    assert missing.read_bytes() == content
    assert kept.stat().st_mtime_ns == written
    record = read_json(samples / "settings.json")
    write_json(
        samples / "settings.json",
        {**record, "settings": {**record["settings"], "checkpoint_sha256": "other"}},
    )
    assert "made anew (checkpoint_sha256: other there" in demo(folder.parent)
    assert kept.stat().st_mtime_ns > written
    assert missing.read_bytes() == content


def test_a_key_that_no_part_has_stops_before_training(tmp_path):
    done = run_demo(tmp_path, "model.no_such_key=1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --override model.no_such_key=1: no part of the demo has the key")
    assert not (tmp_path / "demo").exists()
