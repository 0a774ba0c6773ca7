"""What the log says of speed and of the time left."""

import io
import logging
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from unirae.app.shell import cli
from unirae.training.callbacks.progress import RunProgress, usual_seconds


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


def test_steps_that_become_slower_for_good_are_followed_line_by_line(caplog):
    """What is left neither stands still for long nor jumps: the second slow line counts, the fourth is the truth."""
    lines = lines_of(caplog, [1.0] * 50 + [2.0] * 50)
    assert ends(lines)[9:14] == ["50 s left", "45 s left", "53 s left", "58 s left", "1 min 00 s left"]
    assert ends(lines)[14] == "50 s left"


def test_steps_that_become_faster_again_are_followed_as_well(caplog):
    lines = lines_of(caplog, [3.0] * 50 + [1.0] * 50)
    assert ends(lines)[9:14] == [
        "2 min 30 s left",
        "2 min 15 s left",
        "1 min 33 s left",
        "58 s left",
        "30 s left",
    ]


@given(st.lists(st.floats(0.9, 1.1), min_size=2, max_size=5), st.floats(1.1, 1e6), st.data())
def test_one_slow_line_does_not_move_the_estimate(usual, slow, data):
    place = data.draw(st.integers(0, len(usual) - 1))
    assert 0.9 <= usual_seconds([*usual[:place], slow, *usual[place + 1 :]]) <= 1.1


@given(st.integers(0, 5), st.floats(2.0, 100.0))
def test_more_slow_lines_are_believed_more(count, slow):
    weight = [0, 0, 1 / 3, 2 / 3, 1, 1][count]
    assert usual_seconds([1.0] * (5 - count) + [slow] * count) == pytest.approx(1 + weight * (slow - 1))


def test_a_first_step_that_is_logged_tells_what_it_can(caplog):
    assert ends(lines_of(caplog, [2.0] + [1.0] * 19, every=1))[0] == "38 s left"


def screen(written: str) -> list[str]:
    """The lines that a terminal shows after that text, with the few control sequences that rich uses."""
    lines, row, column = [""], 0, 0
    for command, argument, character in re.findall(r"\x1b\[(?:(\d*[ABK])|([\d;?]*[mhl]))|(.|\n)", written):
        if command.endswith("A"):
            row -= int(command[:-1] or 1)
        elif command.endswith("K"):
            lines[row] = ""
        elif character == "\r":
            column = 0
        elif character == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif not argument and character:
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines if line.strip()]


def test_log_lines_stand_above_the_bar_of_a_terminal(monkeypatch, caplog, tmp_path):
    """The file has the steps, too, which on the terminal only the bar shows."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    cli.configure_logging(tmp_path / "train.log")  # before the bar, as every command does
    trainer: Any = SimpleNamespace(global_step=0, max_steps=4, log_every_n_steps=1, loggers=[])
    shown = RunProgress(
        label="run", images_per_step=10, console=Console(stderr=True, force_terminal=True, width=100)
    )
    module: Any = SimpleNamespace(last_terms={"loss": 0.5})
    shown.on_train_start(trainer, module)
    for step in (1, 2, 3, 4):
        trainer.global_step = step
        shown.on_train_batch_end(trainer, module)
        logging.getLogger("unirae.test").info("scores of step %d", step)
    assert screen(terminal.getvalue())[-1].startswith("run"), "the bar is still the last line"
    shown.teardown(trainer, module, "fit")
    logging.getLogger("unirae.test").info("the end")
    *lines, bar, end = [re.sub(r"^[\d:]{8} ", "", line) for line in screen(terminal.getvalue())]
    assert lines == [f"scores of step {step}" for step in (1, 2, 3, 4)]
    assert re.fullmatch(r"run ━+ 4/4 loss 0\.5000, [\d.]+ images/s, the last step", bar)
    assert end == "the end"
    logged = [line.split(" ", 1)[1] for line in (tmp_path / "train.log").read_text().splitlines()]
    assert [re.sub(", loss.*", "", line) for line in logged] == [
        *(words for step in (1, 2, 3, 4) for words in (f"run: step {step}/4", f"scores of step {step}")),
        "the end",
    ]
    assert "loss 0.5000" in logged[0]
    for handler in root.handlers:
        handler.close()
