"""What each part of RAEv2's recipe is worth: the tool's plan and arithmetic, and docs/results.md shows its JSON."""

import torch

import recipe_study as tool
from unirae.app.config.composition import compose
from unirae.core.io import read_json


def test_the_plan_stays_within_300_tflop():
    plan = list(tool.planned())
    assert sum(tflop for _, _, tflop in plan) <= 301
    names = [(tool.name_of(parts), seed, tflop) for parts, seed, tflop in plan]
    assert len(set(names)) == len(names)
    assert {seed for name, seed, tflop in names if (name, tflop) == ("v2", tool.PAIR_TFLOP)} == {0, 1, 2}


def test_every_switch_is_one_of_the_configuration(tmp_path):
    for parts in ([], *tool.ALONE, tool.FULL):
        compose(["experiment=dit_tiny", *tool.overrides_of(parts, tmp_path)])


def test_operations_are_those_of_the_products():
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    with tool.studies.counting() as total:
        torch.mm(a, b)
        a + 1
    assert total() == 2 * 3 * 5 * 7


def test_the_pair_has_the_mean_and_the_range_of_its_seeds():
    scores = {"fd_unguided": 2.0, "share_unguided": 0.25, "fd_guided": 1.0, "share_guided": 0.5}
    runs = [
        {
            "parts": [],
            "seed": seed,
            "tflop": tool.PAIR_TFLOP,
            "scores": [{"step": step, **scores, "fd_guided": 1.0 + seed} for step in (1, 2, 4)],
        }
        for seed in (0, 1, 2)
    ]
    assert (
        "| RAE | 27 | 4 | 2.00 (2.00 to 2.00) | 25% (25% to 25%) | 2.00 (1.00 to 3.00) | 50% (50% to 50%) |"
        in (tool.tables(runs))
    )


def test_the_page_shows_the_figures():
    runs = read_json(tool.FIGURES)["runs"]
    table_rows = {tool.name_of(parts) for parts in ([], *tool.ALONE, *tool.AFTER)}
    assert {tool.name_of(run["parts"]) for run in runs if run["tflop"] == tool.TABLE_TFLOP} == table_rows
    assert tool.tables(runs) in tool.studies.PAGE.read_text(), "run: python tools/recipe_study.py"
