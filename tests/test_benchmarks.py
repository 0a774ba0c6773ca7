"""The tool that the benchmarks are made with: sides take turns, each in a process of its own."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmarks(tmp_path, monkeypatch):
    """Its modules, and sides that note when they work."""
    (tmp_path / "sides.py").write_text(
        "import time\n"
        "def work(lap, *, log, name, seconds):\n"
        "    import torch\n"
        "    while True:\n"
        "        lap()\n"
        "        open(log, 'a').write(name)\n"
        "        torch.mm(torch.ones(4, 8), torch.ones(8, 16))\n"
        "        time.sleep(seconds)\n"
        "def broken(lap):\n"
        "    raise RuntimeError('broken')\n"
    )
    monkeypatch.setattr(sys, "path", [str(FOLDER), str(tmp_path), *sys.path])
    import cases
    import paced

    yield paced, cases, tmp_path
    for name in (
        "autoencoder",
        "cases",
        "official",
        "ours",
        "paced",
        "sampling",
        "sides",
        "stage1",
        "stage2",
    ):
        sys.modules.pop(name, None)


def test_sides_take_turns_and_are_timed(benchmarks):
    paced, _, folder = benchmarks
    log = folder / "log"
    sides = [
        paced.Side(name, "sides:work", {"log": str(log), "name": name, "seconds": seconds})
        for name, seconds in (("a", 0.01), ("b", 0.2))
    ]
    found = paced.interleave(sides, rounds=4, warmup=1)
    assert log.read_text() == "ab" + "ab" + "ba" + "ab" + "ba" + "ab"
    assert 0.01 <= found["a"].median < found["b"].median >= 0.2
    assert found["a"].flops == 2 * 4 * 8 * 16
    assert found["a"].peak_bytes is None or found["a"].peak_bytes > 1e7
    with pytest.raises(RuntimeError, match=r"c \(sides:broken\) ended"):
        paced.interleave([paced.Side("c", "sides:broken")], rounds=1, warmup=1)


def test_a_lower_ratio_is_a_regression(benchmarks, monkeypatch):
    _, cases, folder = benchmarks
    monkeypatch.setattr(cases, "RESULTS", folder)
    assert cases.regressions("x", {"ratios": {}}) == ["x: no committed results to compare with"]
    cases.write("x", {"ratios": {"equal precision": {"speed": 2.0}}})
    assert (
        cases.regressions("x", {"ratios": {"equal precision": {"speed": 1.8}, "new": {"speed": 0.1}}}) == []
    )
    assert cases.regressions("x", {"ratios": {"equal precision": {"speed": 1.6}}}) == [
        "x, equal precision: 1.6 now, 2.0 committed"
    ]


def test_every_script_has_cases_of_functions_that_both_sides_have(benchmarks):
    import autoencoder
    import official
    import ours
    import sampling
    import stage1
    import stage2

    found = [case for script in (stage1, stage2, autoencoder, sampling) for case in script.CASES]
    assert len({case.name for case in found}) == len(found) == 12
    for case in found:
        assert callable(getattr(ours, case.work))
        assert callable(getattr(official, case.work))
