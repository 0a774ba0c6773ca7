"""What the demo foretells of its time."""

import json

import pytest

from unirae.app.demo import outlook as outlook_module
from unirae.app.demo.options import LONG, QUICK, USUAL, Options
from unirae.app.demo.outlook import TFLOP, Outlook, work_left
from unirae.app.demo.parts import PARTS, lengthened
from unirae.core.errors import ConfigError


@pytest.fixture(autouse=True)
def speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook_module, "_SPEED", {"encoder": 0.4, "rae": 0.6, "dit": 1.0})
    monkeypatch.setattr(outlook_module, "_START", 4.0)


def outlook() -> Outlook:
    return Outlook(1e12, {"encoder": 4e12, "rae": 6e12, "dit": 10e12})


def test_the_sum_is_of_the_parts_and_each_is_named():
    found = outlook()
    assert found.left() == pytest.approx(sum(found.seconds(part) for part in ("encoder", "rae", "dit")))
    assert str(found).startswith("about 42 s (encoder 14 s, rae ")


def test_finished_parts_correct_what_is_left():
    found = outlook()
    before = found.seconds("dit")
    found.finished("encoder", 2 * found.seconds("encoder"))
    assert found.seconds("dit") == pytest.approx(2 * before)
    assert "encoder" not in found.work
    found.finished("rae", found.seconds("rae"))
    assert found.seconds("dit") == pytest.approx(2 * before)  # what came true changes nothing


def test_the_newest_part_counts_most():
    """Another program that began in the middle of the demo slows what is left, whatever the first part took."""
    found = outlook()
    before = found.seconds("dit")
    found.finished("encoder", found.seconds("encoder"))
    found.finished("rae", 3 * found.seconds("rae"))
    assert 2.5 * before < found.seconds("dit") < 3 * before


def test_a_part_that_was_there_already_corrects_nothing():
    found = Outlook(1e12, {"encoder": 0.0, "rae": 6e12})
    before = found.seconds("rae")
    found.finished("encoder", 0.3)
    assert found.seconds("rae") == before


def config(steps: int, batch: int = 32) -> dict:
    return {
        "trainer": {"max_steps": steps},
        "data": {"global_batch_size": batch},
        "model": {"scheduler": {"warmup_steps": 20}},
    }


def test_work_follows_steps_batches_and_what_is_done():
    usual = {part: config(100) for part in PARTS}
    now = {"encoder": config(100), "rae": config(200), "dit": config(100, batch=64)}
    left = work_left(now, usual, {"encoder": 100, "rae": 50, "dit": 0})
    assert left == pytest.approx({"encoder": 0.0, "rae": 1.5e12 * TFLOP["rae"], "dit": 2e12 * TFLOP["dit"]})


def test_a_part_without_a_number_of_steps_counts_as_usual():
    usual = {part: config(100) for part in PARTS}
    epochs = config(100)
    epochs["trainer"]["max_steps"] = None
    left = work_left({"encoder": epochs}, usual, {"encoder": 25})
    assert left == pytest.approx({"encoder": 0.75e12 * TFLOP["encoder"]})


def test_lengths():
    assert Options().length is USUAL
    assert Options(quick=True).length is QUICK
    assert str(Options(long=True).folder) == LONG.folder
    with pytest.raises(ConfigError, match="--quick and --long exclude each other"):
        _ = Options(quick=True, long=True).length
    uncompared = "callbacks.health_check.curves=null"  # of runs of another length nothing is known
    assert lengthened(config(360), 0.1) == [
        "trainer.max_steps=36",
        "model.scheduler.warmup_steps=2",
        uncompared,
    ]
    assert lengthened(config(360), 5.0) == [
        "trainer.max_steps=1800",
        "model.scheduler.warmup_steps=20",
        uncompared,
    ]
    assert lengthened(config(360), 1.0) == []


def test_the_operations_are_those_that_were_counted(pytestconfig):
    counted = json.loads((pytestconfig.rootpath / "benchmarks/results/demo.json").read_text())["parts"]
    words = json.loads((pytestconfig.rootpath / "docs/results/words.json").read_text())["training"][
        "t2i_tiny"
    ]
    found = {part: one["tflop"] for part, one in counted.items()} | {"words": words["tflop"]}
    assert found == pytest.approx(TFLOP, rel=0.05)
