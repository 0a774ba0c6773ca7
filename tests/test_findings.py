"""Findings of the papers in small: the tool's plan and table, and docs/results.md shows its JSON."""

from dataclasses import replace
from pathlib import Path

import pytest

import findings as tool
from unirae.app.config.composition import compose
from unirae.core.io import read_json

SCORES = {"fd": 2.0, "share": 0.25, "fd_guided": 1.0, "share_guided": 0.5}


def test_the_plan_stays_within_30_tflop_each_and_150_together():
    each = {name: len(of.arms) * len(of.seeds) * of.tflop for name, of in tool.FINDINGS.items()}
    assert max(each.values()) <= 30
    assert sum(each.values()) <= 150


@pytest.mark.parametrize("name", tool.FINDINGS)
def test_every_arm_is_one_of_the_configuration(name):
    experiment = {"noise": "rae_demo", "blocks": "rae_demo"}.get(name, "dit_demo")
    for words in tool.FINDINGS[name].arms.values():
        compose([f"experiment={experiment}", *words])


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


def test_a_finished_run_is_not_run_again(tmp_path, monkeypatch):
    figures, place = tmp_path / "findings.json", tool.Place(Path(), tmp_path, "plain", 0)
    calls = []
    counted = replace(tool.HEAD, run=lambda *_: calls.append(0) or SCORES)
    monkeypatch.setitem(tool.FINDINGS, "head", counted)
    for _ in range(2):
        tool._run("head", place, [], figures)
    assert len(calls) == 1
    assert read_json(figures)["runs"] == [{"finding": "head", "arm": "plain", "seed": 0, **SCORES}]


@pytest.mark.parametrize("name", tool.FINDINGS)
def test_the_page_shows_the_figures(name):
    runs = [run for run in read_json(tool.FIGURES)["runs"] if run["finding"] == name]
    finding = tool.FINDINGS[name]
    assert {(run["arm"], run["seed"]) for run in runs} == {
        (a, s) for a in finding.arms for s in finding.seeds
    }
    assert tool.table(finding, runs) in tool.studies.PAGE.read_text(), "run: python tools/findings.py"
    assert (tool.PLOTS / f"findings_{name}.png").is_file()
