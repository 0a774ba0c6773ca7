"""The compare command: a table, a JSON file, one line for each mistake."""

import json
import sys

import pytest

from tiny_results import write_result
from unirae.app.compare import main

BETTER = {
    "metrics": {"fid": 9.0, "is": 4.0},
    "settings/images/content_sha256": "22",
    "settings/images/sampler/cfg_scale": 1.5,
    "warnings": ["few images"],
}


@pytest.fixture
def command(monkeypatch, tmp_path):
    def call(a, b, *rest):
        monkeypatch.setattr(sys, "argv", ["compare", str(a), str(b), *map(str, rest)])
        monkeypatch.setenv("COLUMNS", "100")
        return main()

    return call


def test_a_table_and_the_same_as_json(command, tmp_path, capsys):
    a, b = write_result(tmp_path / "a.json"), write_result(tmp_path / "b.json", BETTER)
    assert command(a, b, "--output", tmp_path / "c.json") == 0
    out = capsys.readouterr().out
    for shown in ("fid@500", "12 ± 0.3", "9 ± 0.3", "-3", "0.85", "B better"):
        assert shown in out
    assert "images.sampler.cfg_scale" in out
    assert "only in B: is" in out
    assert "of B: few images" in out
    record = json.loads((tmp_path / "c.json").read_text())
    assert record["scores"]["fid"]["outcome"] == "B better"
    assert record["scores"]["fid"]["difference"] == -3.0
    assert record["differences"] == {"images.sampler.cfg_scale": {"a": 1.0, "b": 1.5}}
    assert record["only_in_b"] == ["is"]


def test_what_cannot_be_compared_is_no_failure_of_the_command(command, tmp_path, capsys):
    a = write_result(tmp_path / "a.json")
    b = write_result(tmp_path / "b.json", {**BETTER, "settings/images/sampler/label_sampling": "random"})
    assert command(a, b) == 0
    assert "fid, not comparable: label sampling: equal in A, random in B" in capsys.readouterr().out


def test_results_without_a_common_score_are_a_mistake(command, tmp_path, capsys):
    """A script that compares by the exit code must not take it for a comparison."""
    a, b = write_result(tmp_path / "a.json"), write_result(tmp_path / "b.json", {"metrics": {"is": 4.0}})
    assert command(a, b, "--output", tmp_path / "c.json") == 2
    said = capsys.readouterr()
    assert f"no score stands in both results: {a} has fid, {b} has is" in " ".join(said.err.split())
    assert said.out == ""
    assert not (tmp_path / "c.json").exists()


def test_mistakes_are_one_line(command, tmp_path, capsys):
    a = write_result(tmp_path / "a.json")
    assert command(a, tmp_path / "no.json") == 2
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "old.json").write_text('{"scores": {"fid": 1.0}, "count": 3, "settings": {}}')
    assert command(a, tmp_path / "old.json") == 2
    assert "older version" in capsys.readouterr().err
