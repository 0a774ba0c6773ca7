"""The width study: the tool reads runs as they are, and docs/results.md shows what its JSON says."""

from pathlib import Path

import pytest
import torch

import width_study as tool
from unirae.core.io import read_json


def write_run(folder: Path, *, width: int, losses: list[float], depth: int = 2) -> None:
    """A finished run that logged every 10 steps."""
    about = {
        "dit": {"architecture": {"hidden_size": width, "depth": depth, "in_channels": 16, "patch_size": 2}},
        "config": {
            "data": {"global_batch_size": 4},
            "model": {"optimizer": {"lr": 1e-3}},
            "trainer": {"max_steps": 100},
            "seed": 5,
        },
        "commit": None,
    }
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"unirae": about}, folder / "checkpoints/last.ckpt")
    rows = "".join(f"{10 * (i + 1)},{loss}\n" for i, loss in enumerate(losses))
    (folder / "csv").mkdir()
    (folder / "csv/metrics.csv").write_text(f"step,train/loss\n{rows}")


def test_a_run_is_its_last_fifth(tmp_path):
    # ten rows to step 100: those of steps 90 and 100 count
    write_run(tmp_path / "0", width=48, losses=[2.0] * 8 + [0.4, 0.2])
    write_run(tmp_path / "1", width=16, losses=[2.0] * 8 + [0.8, 0.8])
    write_run(tmp_path / "2", width=80, losses=[2.0] * 8 + [0.1, 0.1])
    narrow, middle, wide = tool.study([tmp_path])["runs"]
    assert (middle["width"], middle["dimension"], middle["steps"], middle["seed"]) == (48, 64, 100, 5)
    assert middle["loss"] == pytest.approx(0.3)
    assert middle["standard_error"] == pytest.approx(0.1)
    assert [run["bound"] for run in (narrow, middle, wide)] == [0.75, 0.25, 0.0]


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"no checkpoints/last\.ckpt"):
        tool.study([tmp_path])


def test_an_interrupted_run_is_refused(tmp_path):
    write_run(tmp_path / "0", width=32, losses=[0.6] * 6)
    with pytest.raises(SystemExit, match="0 stopped at step 60 of 100"):
        tool.study([tmp_path])


def test_table_and_plot_show_every_depth(tmp_path):
    write_run(tmp_path / "0", width=32, losses=[0.6] * 10)
    write_run(tmp_path / "1", width=64, losses=[0.1] * 10)
    write_run(tmp_path / "2", width=32, losses=[0.7] * 10, depth=4)
    figures = tool.study([tmp_path])
    assert tool.table(figures).splitlines()[2:] == [
        "| 32 ÷ 64 = 0.50 | 0.500 | 0.600 | 0.700 | 384 | 0.52 |",
        "| 64 ÷ 64 = 1.00 | 0.000 | 0.100 | – | 768 | 0.02 |",
    ]
    assert tool.plot(figures).startswith(b"\x89PNG")


def test_the_page_shows_the_figures():
    figures = read_json(tool.FIGURES)
    assert tool.table(figures) in tool.studies.PAGE.read_text(), "run: python tools/width_study.py"
    assert tool.PLOT.stat().st_size < 100_000


def test_the_figures_show_the_floor():
    """No run is below its bound; narrow ones are near it, whatever their depth; wide ones reach next to nothing."""
    for run in read_json(tool.FIGURES)["runs"]:
        above = run["loss"] - run["bound"]
        assert -3 * run["standard_error"] < above < 0.05, run
