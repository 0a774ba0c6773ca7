"""What the log says of speed and of the time left."""

import io
import logging
import re
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from unirae.training.callbacks.progress import RunProgress


def lines_of(caplog: pytest.LogCaptureFixture, seconds: list[float], *, every: int = 5) -> list[str]:
    """The log of steps 101, 102, … of 10 images, each of which takes so many seconds."""
    now = 0.0
    trainer: Any = SimpleNamespace(
        global_step=100, max_steps=100 + len(seconds), log_every_n_steps=every, loggers=[]
    )
    module: Any = SimpleNamespace(last_terms={"loss": 0.5})
    shown = RunProgress(
        label="run",
        images_per_step=10,
        console=Console(file=io.StringIO(), force_terminal=False),
        clock=lambda: now,
    )
    with caplog.at_level(logging.INFO, logger="unirae"):
        shown.on_train_start(trainer, module)
        for taken in seconds:
            now += taken
            trainer.global_step += 1
            shown.on_train_batch_end(trainer, module)
    return caplog.messages


def ends(lines: list[str]) -> list[str]:
    return [line.rsplit(", ", 1)[1] for line in lines]


def test_neither_the_first_step_nor_a_pause_for_scores_is_taken_for_the_speed_of_the_run(caplog):
    lines = lines_of(caplog, [50.0] + [1.0] * 9 + [13.0] + [1.0] * 9)
    speeds = [float(re.search(r"([\d.]+) images/s", line).group(1)) for line in lines]
    assert speeds == pytest.approx([10, 10, 50 / 17, 10], abs=0.05)
    assert ends(lines) == ["15 s left", "10 s left", "5 s left", "the last step"]


def test_steps_that_become_slower_for_good_are_believed_within_five_lines(caplog):
    lines = lines_of(caplog, [1.0] * 50 + [2.0] * 50)
    assert ends(lines)[9] == "50 s left"
    assert ends(lines)[10] == "45 s left"  # one slow line says little
    assert ends(lines)[14] == "50 s left"


def test_a_first_step_that_is_logged_tells_what_it_can(caplog):
    assert ends(lines_of(caplog, [2.0] + [1.0] * 19, every=1))[0] == "38 s left"
