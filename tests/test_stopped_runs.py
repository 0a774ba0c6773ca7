"""What the documents say of killed and interrupted runs is what tools/ found; how two demos are compared."""

import json
from pathlib import Path

import interrupt_demo

DOCS = Path(__file__).parents[1] / "docs"


def test_twenty_continued_runs_are_equal():
    found = json.loads((DOCS / "results/kill_test.json").read_text())
    assert set(found) == {"rae_tiny", "dit_tiny"}
    for run in found.values():
        assert (run["kills"], run["steps"], run["checkpoint_every"]) == (10, 120, 10)
        assert run["while_a_checkpoint_was_written"] >= 5
        assert run["differences"] == []
        assert len(run["continued_from_steps"]) == 10


def test_a_demo_stopped_five_times_is_equal():
    found = json.loads((DOCS / "results/interrupt_demo.json").read_text())
    assert len(found["stops"]) == 5
    assert found["differences"] == []


def test_a_demo_that_differs_is_noticed(tmp_path):
    scores = {"rows": [{"psnr": 20.0}], "generation": {"rows": []}}
    for name in ("whole", "stopped"):
        for file in ("samples/0.png", "samples/labels.csv", "pictures/samples.png"):
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text("the same")
        (tmp_path / name / "scores.json").write_text(json.dumps(scores))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert interrupt_demo.differences(stopped, whole) == []
    (stopped / "samples/0.png").write_text("another")
    (stopped / "samples/1.png").write_text("one more")
    (stopped / "scores.json").write_text(json.dumps({**scores, "rows": []}))
    assert interrupt_demo.differences(stopped, whole) == [
        "the files of samples/**/*.png",
        "samples/0.png",
        "scores of the reconstructions",
    ]
