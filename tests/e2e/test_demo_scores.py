"""The whole demo keeps its scores: within a band made from the seeds of docs/results/demo_seeds.json."""

import statistics
import subprocess
import sys
from typing import Any

import pytest

from unirae.core.io import read_json

pytestmark = pytest.mark.slow  # the demo's own time

WIDTH = 4.0
"""Of the band, to either side, in standard deviations over the seeds."""
LEAST = 0.03
"""Of a standard deviation, as a share of the mean: three seeds may happen to agree."""


def judged(psnr: float, generation: dict[str, dict[str, float]]) -> dict[str, float]:
    samples, real = generation["samples"], generation["real"]
    return {
        "psnr": psnr,
        "distance": samples["fd_mae"] / real["fd_mae"],
        "within classes": samples["fd_mae_within_class"] / real["fd_mae_within_class"],
        "recognised": samples["classified"] / real["classified"],
    }


def band(values: list[float]) -> tuple[float, float]:
    mean = statistics.mean(values)
    width = WIDTH * max(statistics.stdev(values), LEAST * mean)
    return mean - width, mean + width


def outside(found: dict[str, float], runs: list[dict[str, Any]]) -> list[str]:
    """The scores that no seed explains."""
    seeds = [judged(run["psnr"], run["generation"]) for run in runs]
    bands = {name: band([one[name] for one in seeds]) for name in found}
    return [
        f"{name}: {found[name]:.3f}, not in {low:.3f} to {high:.3f}"
        for name, (low, high) in bands.items()
        if not low <= found[name] <= high
    ]


def test_the_demo_keeps_its_scores(tmp_path, pytestconfig):
    subprocess.run(
        [sys.executable, "-m", "unirae", "demo", "--output_dir", str(tmp_path / "demo")], check=True
    )
    scores = read_json(tmp_path / "demo/scores.json")
    rows = {row["key"]: row["scores"] for row in scores["generation"]["rows"]}
    psnr = next(row["scores"]["psnr"] for row in scores["rows"] if row["key"] == "rae")
    runs = read_json(pytestconfig.rootpath / "docs/results/demo_seeds.json")["runs"]
    assert outside(judged(psnr, rows), runs) == []
    worse = {**rows, "samples": {**rows["samples"], "classified": 0.5 * rows["real"]["classified"]}}
    assert len(outside(judged(0.8 * psnr, worse), runs)) == 2
