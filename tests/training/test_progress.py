"""What the log says of speed and of the time left."""

import logging
import re
from types import SimpleNamespace
from typing import Any

import pytest

from unirae.training.callbacks import progress
from unirae.training.callbacks.progress import RunProgress


def lines_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: dict[int, float]
) -> Any:
    """The log of 20 steps of 10 images that take a second each but where ``seconds`` says otherwise."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    trainer: Any = SimpleNamespace(global_step=100, max_steps=120, log_every_n_steps=5, loggers=[])
    module: Any = SimpleNamespace(last_terms={"loss": 0.5})
    shown = RunProgress(label="run", images_per_step=10)
    with caplog.at_level(logging.INFO, logger="unirae"):
        shown.on_train_start(trainer, module)
        for step in range(101, 121):
            now[0] += seconds.get(step, 1.0)
            trainer.global_step = step
            shown.on_train_batch_end(trainer, module)
    return caplog.messages


def test_the_time_left_is_judged_by_all_steps_but_the_first(monkeypatch, caplog):
    # 101 is slow (workers start); 12 s of scores lie between 110 and 111
    lines = lines_of(monkeypatch, caplog, {101: 50.0, 111: 13.0})
    speeds = [float(re.search(r"([\d.]+) images/s", line).group(1)) for line in lines]
    assert speeds == pytest.approx([50 / 54, 10, 50 / 17, 10], abs=0.05)
    ends = [line.rsplit(", ", 1)[1] for line in lines]
    assert ends == ["15 s left", "10 s left", "9 s left", "the last step"]  # the third: 5 steps of 26/14 s


def test_a_single_step_tells_what_it_can(monkeypatch, caplog):
    monkeypatch.setattr(progress, "logs_now", lambda trainer: True)
    assert lines_of(monkeypatch, caplog, {101: 2.0})[0].endswith("38 s left")
