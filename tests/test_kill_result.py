"""What the documents say of killed runs is what tools/kill_test.py found."""

import json
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_twenty_continued_runs_are_equal():
    found = json.loads((DOCS / "results/kill_test.json").read_text())
    assert set(found) == {"rae_tiny", "dit_tiny"}
    for run in found.values():
        assert (run["kills"], run["steps"], run["checkpoint_every"]) == (10, 120, 10)
        assert run["while_a_checkpoint_was_written"] >= 5
        assert run["differences"] == []
        assert len(run["continued_from_steps"]) == 10
