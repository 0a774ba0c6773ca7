"""The tool that makes curves of healthy runs: it reads runs as they are and refuses what does not belong together."""

import csv
import sys
from pathlib import Path

import pytest
import torch

import health_curves as tool
from synthetic_curves import rows_of
from unirae.core.io import read_json
from unirae.evaluation.health.curve_files import known_curves, read_curves

ROOT = Path(__file__).parents[3]


def write_run(folder: Path, seed: int, *, lr: float = 0.001, step: int = 1000) -> Path:
    """A run of 1000 steps, finished or not."""
    config = {
        "data": {"global_batch_size": 32},
        "model": {"optimizer": {"lr": lr}},
        "trainer": {"max_steps": 1000, "precision": "32-true"},
        "seed": seed,
    }
    about = {"config": config, "step": step, "version": "0.1.0", "commit": "abc"}
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"unirae": about}, folder / "checkpoints/last.ckpt")
    (folder / "experiment").write_text("synthetic\n")
    (folder / "csv").mkdir()
    with open(folder / "csv/metrics.csv", "w", newline="") as file:
        rows = rows_of(seed)
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_curves_and_plot_of_three_seeds(tmp_path, monkeypatch, capsys):
    runs = [str(write_run(tmp_path / str(seed), seed)) for seed in range(3)]
    monkeypatch.setattr(
        sys, "argv", ["tool", "--runs", *runs, "--machine", "here", "--output", str(tmp_path)]
    )
    assert tool.main() == 0
    content = read_json(tmp_path / "synthetic.json")
    assert (content["machine"], content["window_steps"]) == ("here", 50)
    assert content["settings"] == {
        "data.global_batch_size": 32,
        "model.optimizer.lr": 0.001,
        "trainer.max_steps": 1000,
    }
    about = {"seed": 2, "unirae": "0.1.0", "commit": "abc", "precision": "32-true"}
    assert {key: content["runs"][2][key] for key in about} == about
    assert (tmp_path / "healthy_synthetic.png").read_bytes().startswith(b"\x89PNG")
    assert "train/loss" in capsys.readouterr().out


def test_the_edge_of_the_band_is_1(tmp_path):
    curves, _ = tool.read_runs([write_run(tmp_path / str(seed), seed) for seed in range(3)])
    shares = tool.held_out(curves)
    assert set(shares) == {"train/loss", "train/gan", "val/psnr"}
    assert all(len(of_runs) == 3 and 0 < max(of_runs) <= 1 for of_runs in shares.values())


@pytest.mark.parametrize(
    ("second", "cause"),
    [
        ({"seed": 1, "step": 500}, "stopped at step 500"),
        ({"seed": 1, "lr": 0.1}, r"no run of the same experiment as .*lr=0\.1 \(reference: 0\.001\)"),
        ({"seed": 0}, "the same seed"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path, second, cause):
    folders = [write_run(tmp_path / "0", 0), write_run(tmp_path / "1", **second)]
    with pytest.raises(SystemExit, match=cause):
        tool.read_runs(folders)


@pytest.mark.parametrize("name", known_curves())
def test_the_docs_show_every_curve(name):
    plot = tool.IMAGES / f"healthy_{name}.png"
    assert plot.stat().st_size < 150_000
    assert plot.name in (ROOT / "docs/healthy-runs.md").read_text()
    assert all(max(shares) <= 1 for shares in tool.held_out(read_curves(name)).values())
