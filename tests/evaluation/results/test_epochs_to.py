"""Epochs to a score, by the scores that a run stored."""

import json
from pathlib import Path
from typing import Any

import pytest

from unirae.core.errors import DataError
from unirae.evaluation.results.epochs_to import epochs_to


def store(run: Path, step: int, fid: float, *, epoch: float | None = None, **changes: Any) -> None:
    images = {
        "kind": "generation",
        "step": step,
        "epoch": step / 10 if epoch is None else epoch,
        "content_sha256": f"hash of {step}",
        "duplicates": 0,
        "sampler": {"guidance": "none", "num_steps": 50} | changes.pop("sampler", {}),
    }
    settings = {"images": images, "metrics": {"fid": {"extractor": "inception"}}, "reference": {"data": "x"}}
    content = {"metrics": {"fid": fid, "is": 100 - fid}, "count": 64, "settings": settings} | changes
    (run / "eval").mkdir(parents=True, exist_ok=True)
    (run / "eval" / f"step-{step:07d}.json").write_text(json.dumps(content))


@pytest.fixture
def run(tmp_path) -> Path:
    for step, fid in ((100, 8.0), (200, 4.0), (300, 1.0), (400, 1.5)):
        store(tmp_path, step, fid)
    return tmp_path


@pytest.mark.parametrize(
    ("score", "target", "epoch"),
    [
        ("fid", 4.0, 20.0),  # exactly at a stored one
        ("fid", 2.0, 20 + 10 * 2 / 3),  # on the line between 4 and 1
        ("fid", 9.0, 10.0),  # from the first on: what was before is not known
        ("is", 98.0, 20 + 10 * 2 / 3),  # better high
    ],
)
def test_the_first_time_counts_and_lies_on_the_line(run, score, target, epoch):
    found = epochs_to(run, score, target)
    assert found.epoch == pytest.approx(epoch)
    assert str(found) == f"{score} {target:g} reached after {epoch:.4g} epochs"


def test_a_score_that_was_not_reached_says_how_far_it_came(run):
    assert str(epochs_to(run, "fid", 0.5)) == "fid 0.5 not reached by epoch 40; best 1"
    assert str(epochs_to(run, "is", 99.5)) == "is 99.5 not reached by epoch 40; best 99"


def test_guided_samples_do_not_count(run):
    store(run, 150, 0.1, sampler={"guidance": "cfg"})
    assert epochs_to(run, "fid", 4.0).epoch == pytest.approx(20.0)


def test_scores_of_other_settings_are_refused(run):
    store(run, 500, 0.5, sampler={"num_steps": 10})
    with pytest.raises(DataError, match=r"scored in different ways: images\.sampler\.num_steps 50 and 10"):
        epochs_to(run, "fid", 2.0)


def test_files_of_before_have_no_epoch(run):
    file = run / "eval/step-0000100.json"
    content = json.loads(file.read_text())
    del content["settings"]["images"]["epoch"]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="was written by an earlier version, which recorded no epoch"):
        epochs_to(run, "fid", 2.0)


def test_what_is_not_there_is_named(run, tmp_path):
    with pytest.raises(DataError, match="no sfid; there is fid, is"):
        epochs_to(run, "sfid", 2.0)
    with pytest.raises(DataError, match="no fid; there is no scores"):
        epochs_to(tmp_path / "nowhere", "fid", 2.0)
    for step in (100, 200, 300, 400):
        store(run, step, 1.0, sampler={"guidance": "cfg"})
    with pytest.raises(DataError, match="guided samples alone"):
        epochs_to(run, "fid", 2.0)
