"""docs/alignment.md says what the configurations say, explains every difference, and forgets no parameter."""

import fnmatch
import sys

import build_alignment as alignment

ROWS = list(alignment.rows())
FIELDS = {"what", "ours", "fact", "official", "means", "at", "why", "note", "same"}


def test_the_page_is_up_to_date():
    assert alignment.PAGE.read_text() == alignment.page(), "run: python tools/build_alignment.py"


def test_a_stale_page_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(alignment, "PAGE", tmp_path / "alignment.md")
    monkeypatch.setattr(sys, "argv", ["build_alignment.py", "--check"])
    alignment.PAGE.write_text(alignment.page().replace("0.9978", "0.9979"))
    assert alignment.main() == 1
    assert "alignment.md is stale" in capsys.readouterr().err


def test_rows_are_complete():
    for row in ROWS:
        source, _, place = row["at"].partition(" ")
        assert set(row) <= FIELDS, row
        assert ("ours" in row) != ("fact" in row) == ("same" in row), row
        assert source in alignment.table()["sources"], row
        assert place, row


def test_exactly_the_differences_have_a_reason():
    wrong = [row for row in ROWS if alignment.is_same(row) == ("why" in row)]
    assert [(row["what"], alignment.our_value(row), row["official"]) for row in wrong] == []


def test_no_parameter_of_the_experiments_is_forgotten():
    assert alignment.uncovered() == []


def test_a_new_parameter_would_be_noticed(monkeypatch):
    config = alignment.composed("dit_xl")
    changed = {**config, "model": {**config["model"], "new_key": 1}, "flow": {**config["flow"], "other": 2}}
    monkeypatch.setattr(alignment, "composed", lambda name: changed if name == "dit_xl" else config)
    assert {"dit_xl: model.new_key", "dit_xl: flow.other"} <= set(alignment.uncovered())


def test_keys_without_a_counterpart_exist_and_are_in_no_row():
    existing = {
        (experiment, key)
        for experiment in ("rae_dino", "dit_xl")
        for group in {"model", "flow"} & alignment.composed(experiment).keys()
        for key in alignment.leaves(alignment.composed(experiment)[group], group)
    }
    read = {key for row in ROWS for key in alignment.keys(row)}
    for pattern in alignment.table()["own"]:
        matched = {(experiment, key) for experiment, key in existing if fnmatch.fnmatch(key, pattern)}
        assert matched, pattern
        assert not (matched & read) - {("rae_dino", "model.encoder.architecture.num_register_tokens")}, (
            pattern
        )
