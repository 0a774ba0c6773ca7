"""Several blocks against one: docs/results.md shows what the JSON of tools/fused_tiny.py says."""

import fused_tiny as tool
from unirae.core.io import read_json


def test_the_table_has_mean_and_range_of_the_seeds():
    runs = [
        {"side": side, "seed": seed, "psnr": 20.0 + seed + 5 * number, "ssim": 0.5 + 0.1 * seed}
        for number, side in enumerate(tool.SIDES)
        for seed in (0, 1, 2)
    ]
    assert tool.table(runs).splitlines()[2:] == [
        "| last block | 21.00 (20.00 to 22.00) | 0.600 (0.500 to 0.700) |",
        "| blocks 1, 3, 5 | 26.00 (25.00 to 27.00) | 0.600 (0.500 to 0.700) |",
    ]


def test_the_page_shows_the_figures():
    runs = read_json(tool.FIGURES)["runs"]
    assert {(run["side"], run["seed"]) for run in runs} == {
        (side, n) for side in tool.SIDES for n in (0, 1, 2)
    }
    assert tool.table(runs) in tool.studies.PAGE.read_text(), "run: python tools/fused_tiny.py"
