"""Findings of the papers in small: the tool's plan and table, and docs/results.md shows its JSON."""

from dataclasses import replace

import pytest

import findings as tool
from unirae.app.config.composition import compose
from unirae.core.errors import WeightsError
from unirae.core.io import read_json, write_json

SCORES = {"fd": 2.0, "share": 0.25, "fd_guided": 1.0, "share_guided": 0.5}


def test_the_plan_stays_within_30_tflop_each_and_150_together():
    each = {name: len(of.arms) * len(of.seeds) * of.tflop for name, of in tool.FINDINGS.items()}
    assert max(each.values()) <= 30
    assert sum(each.values()) <= 150


@pytest.mark.parametrize(
    ("name", "arm"), [(name, arm) for name, of in tool.FINDINGS.items() for arm in of.arms]
)
def test_every_run_is_one_of_the_configuration(name, arm, tmp_path, monkeypatch):
    """With all that a finding adds to its arm's overrides; what is scored then is missing."""
    trained = []

    def train(place, experiment, words, *, tflop, into):
        compose([f"experiment={experiment}", *words])
        trained.append(into)
        return {"steps": 1}

    monkeypatch.setattr(tool.Place, "train", train)
    finding = tool.FINDINGS[name]
    with pytest.raises(WeightsError):
        finding.run(tool.Place(tmp_path, tmp_path, tmp_path / "own", 0), finding.arms[arm], 1.0)
    assert trained == {"noise": ["rae"], "blocks": ["rae", "dit"]}.get(name, ["dit"])


def test_the_table_has_each_arm_its_seeds_and_what_only_the_paper_has():
    runs = [
        {"arm": arm, "seed": 0, "steps": 10, "gflop_a_step": 12.5, "psnr": 19.5, "rfd": 0.5, **SCORES}
        for arm in tool.BLOCKS.arms
    ]
    lines = tool.table(tool.BLOCKS, [*runs, {**runs[0], "seed": 1, "psnr": 20.5}]).splitlines()
    assert lines[2].startswith("| 1 block | 10 | 12.5 | 20.00 (19.50 to 20.50) | 0.50 (0.50 to 0.50) | 2.00")
    assert lines[2].endswith("| 18.93 | – |")
    assert lines[5].startswith("| 7 blocks | – | – | – |")
    assert lines[6].endswith("| 27.03 | 3.01 |")


def test_a_run_is_made_again_only_where_it_depends_on_something_else(tmp_path, monkeypatch):
    places = []
    monkeypatch.setitem(
        tool.FINDINGS, "head", replace(tool.HEAD, run=lambda place, *_: places.append(place.own) or SCORES)
    )
    demo, output = tmp_path / "demo", tmp_path / "output"
    for part in ("encoder", "rae", "dit"):
        write_json(demo / part / "checkpoints/last.ckpt", part)
    for _ in range(2):
        tool.run_one("head", "plain", 0, demo=demo, output=output)
    assert len(places) == 1
    write_json(demo / "rae/checkpoints/last.ckpt", "another")
    tool.run_one("head", "plain", 0, demo=demo, output=output)
    assert len(set(places)) == 2
    (run,) = tool.results(output / "findings.json")
    assert {**run, **SCORES} == run
    assert (run["finding"], run["arm"], run["seed"]) == ("head", "plain", 0)


@pytest.mark.parametrize("name", tool.FINDINGS)
def test_the_page_shows_the_figures(name):
    runs = [run for run in read_json(tool.FIGURES)["runs"] if run["finding"] == name]
    finding = tool.FINDINGS[name]
    assert {(run["arm"], run["seed"]) for run in runs} == {
        (a, s) for a in finding.arms for s in finding.seeds
    }
    assert tool.table(finding, runs) in tool.studies.PAGE.read_text(), "run: python tools/findings.py --docs"
    assert (tool.studies.ROOT / f"docs/images/findings_{name}.png").is_file()
