"""Findings of the papers in small: the tool's plan and table, and docs/results.md shows its JSON."""

import os
import statistics
import sys
from dataclasses import replace

import pytest

import findings as tool
from findings_page import figure_of
from unirae.app.config.composition import compose
from unirae.core.errors import WeightsError
from unirae.core.file_lock import locked
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


def test_two_processes_do_not_write_into_one_folder(tmp_path, monkeypatch, capsys):
    """Each reads the results, adds its own and writes all: without a lock the later one loses the earlier one's."""
    seen = []
    monkeypatch.setattr(tool, "run_one", lambda *_, **__: seen.append((tmp_path / "findings.lock").exists()))
    monkeypatch.setattr(
        sys, "argv", ["findings", "--demo", "d", "--output", str(tmp_path), "--only", "narrow"]
    )
    with locked(tmp_path / "findings.lock", busy="-"):
        assert tool.main() == 2
    assert seen == []
    said = capsys.readouterr().err
    assert f"error: process {os.getpid()} on " in said
    assert f"runs findings into {tmp_path}; wait for it, or choose another --output" in said
    assert tool.main() == 0
    assert seen == [True] * 4
    assert not (tmp_path / "findings.lock").exists()


@pytest.mark.parametrize("name", tool.FINDINGS)
def test_the_plot_shows_every_seed_its_mean_and_the_papers_figures(name):
    finding = tool.FINDINGS[name]
    runs = [run for run in read_json(tool.FIGURES)["runs"] if run["finding"] == name]
    panels = figure_of(finding, runs).axes
    assert len(panels) == len(finding.scores) + len(finding.paper)
    for axes, score in zip(panels, finding.scores, strict=False):
        assert [label.get_text() for label in axes.get_xticklabels()] == list(finding.arms)
        for number, (bar, points, arm) in enumerate(zip(axes.patches, axes.lines, finding.arms, strict=True)):
            values = [run[score] for run in runs if run["arm"] == arm]
            assert list(points.get_ydata()) == values
            assert set(points.get_xdata()) == {number}
            assert bar.get_height() == pytest.approx(statistics.mean(values))
            assert bar.get_x() + bar.get_width() / 2 == pytest.approx(number)
            low, high = axes.get_ylim()
            assert all(low <= value <= high for value in values)
    for axes, (title, of) in zip(panels[len(finding.scores) :], finding.paper.items(), strict=True):
        assert axes.get_title() == f"paper: {title}"
        assert [label.get_text() for label in axes.get_xticklabels()] == list(of)
        assert [bar.get_height() for bar in axes.patches] == list(of.values())


def test_a_poor_psnr_is_not_cut_off():
    runs = [{"arm": arm, "seed": 0, "psnr": 4.0, "rfd": 0.5, **SCORES} for arm in tool.BLOCKS.arms]
    assert figure_of(tool.BLOCKS, runs).axes[0].get_ylim()[0] <= 4.0


@pytest.mark.parametrize("name", tool.FINDINGS)
def test_the_page_shows_the_figures(name):
    runs = [run for run in read_json(tool.FIGURES)["runs"] if run["finding"] == name]
    finding = tool.FINDINGS[name]
    assert {(run["arm"], run["seed"]) for run in runs} == {
        (a, s) for a in finding.arms for s in finding.seeds
    }
    assert tool.table(finding, runs) in tool.studies.PAGE.read_text(), "run: python tools/findings.py --docs"
    assert (tool.studies.ROOT / f"docs/images/findings_{name}.png").is_file()
