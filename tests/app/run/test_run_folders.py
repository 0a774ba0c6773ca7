"""A folder belongs to one run; a finished one says so; what a killed one left is in nobody's way."""

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import time
import warnings
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import hydra.core.utils
import pytest

from tiny_training import TINY, tiny_config
from unirae.app import train
from unirae.app.run import training
from unirae.app.run.assembly import assemble
from unirae.app.run.run_dir import taken, without_trace
from unirae.core.errors import ConfigError, RunFinished
from unirae.core.file_lock import BusyError
from unirae.training.csv_logger import read_metrics


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """``train.py`` with these words: (status, the last line on stderr)."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status = train.main()
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return status, err.strip().splitlines()[-1] if err.strip() else ""

    yield run
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level


@pytest.fixture
def trained_into(monkeypatch):
    """Where runs went that were about to train."""
    folders: list[str] = []
    monkeypatch.setattr(
        training, "_train", lambda config, **rest: folders.append(config["paths"]["output_dir"])
    )
    return folders


def test_a_second_run_of_the_same_second_goes_elsewhere(command, trained_into, monkeypatch):
    moment = datetime(2026, 1, 2, 3, 4, 5)
    monkeypatch.setattr(hydra.core.utils, "datetime", SimpleNamespace(now=lambda: moment))
    folder = Path("logs/train/runs/2026-01-02_03-04-05")
    with taken(folder), taken(folder.with_name(f"{folder.name}-2")):
        assert command("experiment=rae_dummy")[0] == 0
    assert trained_into == [f"{folder}-3"]
    assert command("experiment=rae_dummy")[0] == 0
    assert trained_into[1:] == [str(folder)]


def test_processes_of_one_run_do_not_part(command, trained_into, monkeypatch):
    """The first of them alone meets the lock; the others would stay where it is held."""
    moment = datetime(2026, 1, 2, 3, 4, 5)
    monkeypatch.setattr(hydra.core.utils, "datetime", SimpleNamespace(now=lambda: moment))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with taken(Path("logs/train/runs/2026-01-02_03-04-05")):
        status, line = command("experiment=rae_dummy")
    assert status == 2
    assert "is in use by process" in line
    assert line.endswith("choose another folder with paths.output_dir=DIR, one for all processes of the run")
    assert trained_into == []


def test_a_refused_run_keeps_its_refusal_where_its_folder_is_gone(tmp_path):
    def refused() -> None:
        with without_trace(tmp_path / "new/run"):
            shutil.rmtree(tmp_path / "new")  # as another run that used the same parents does
            raise ConfigError("refused")

    with pytest.raises(ConfigError, match="refused"):
        refused()


def test_missing_networks_of_scores_show_before_the_first_step(command):
    words = [*TINY["stage1"], "paths.output_dir=run", "trainer.max_steps=2"]
    scores = "callbacks.reconstruction_metrics"
    status, line = command(*words, f"{scores}.metrics=[rfid]", f"{scores}.inception_weights=nope.pth")
    assert status == 2
    assert "nope.pth" in line
    assert not Path("run").exists()  # refused before it began


@pytest.mark.parametrize("words", [["paths.output_dir=here"], ["paths.output_dir=here", "debug=default"]])
def test_a_folder_that_was_chosen_is_refused_with_the_process_that_has_it(command, trained_into, words):
    with taken(Path("here")):
        status, line = command("experiment=rae_tiny", *words)
    assert status == 2
    assert line.startswith(f"error: here is in use by process {os.getpid()} on ")
    assert trained_into == []
    assert os.listdir("here") == []


def hold(folder: str, pipe) -> None:
    with taken(Path(folder)):
        child = os.fork()  # as a loader's worker, which outlives its parent for seconds
        if child:
            pipe.send(child)
        time.sleep(100)


def test_a_killed_process_holds_nothing(tmp_path):
    here, there = multiprocessing.Pipe()
    holder = multiprocessing.get_context("spawn").Process(target=hold, args=(str(tmp_path), there))
    holder.start()
    child = here.recv()
    with pytest.raises(BusyError, match=f"in use by process {holder.pid} on "), taken(tmp_path):
        pass
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join()
    with taken(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("paths.output_dir=", "error: paths.output_dir=: give a path"),
        ("paths.output_dir='  '", "error: paths.output_dir=  : give a path"),
        ("paths.output_dir=null", "error: paths.output_dir"),
        ("paths.output_dir=file", "error: paths.output_dir=file: file is a file; choose a folder"),
        ("paths.output_dir=file/below", "error: paths.output_dir=file/below: "),
    ],
)
def test_no_run_goes_into_what_is_no_folder_of_its_own(command, trained_into, word, message):
    Path("file").write_text("text")
    status, line = command("experiment=rae_tiny", word)
    assert (status, line[: len(message)]) == (2, message)
    assert os.listdir() == ["file"]
    assert trained_into == []


def test_a_finished_run_says_so_and_changes_nothing(command):
    words = [*TINY["stage1"], "paths.output_dir=run", "callbacks.reconstruction_metrics.metrics=[psnr]"]
    assert command(*words, "trainer.max_steps=2")[0] == 0
    leftover = Path("run/checkpoints/.last.ckpt.4711.tmp")
    leftover.write_text("half a checkpoint of a process that was killed")
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*") if path.suffix != ".log"}
    del before[leftover], before[leftover.parent]
    for steps, beyond in ((2, ""), (1, ", beyond the 1 steps that are asked for")):
        status, line = command(*words, f"trainer.max_steps={steps}", "ckpt_path=last")
        assert status == 0
        assert f"finished at step 2{beyond}: run/checkpoints/last.ckpt stays as it is" in line
        assert "set trainer.max_steps" in line
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not leftover.exists()
    config = tiny_config("trainer.max_steps=2", output_dir=Path("run"))
    with pytest.raises(RunFinished, match="finished at step 2"):
        assemble(config, experiment="tiny", checkpoint=Path("run/checkpoints/last.ckpt"))
    with open("run/csv/metrics.csv", "a") as file:
        file.write("3,0.1")  # half a row
    assert command(*words, "trainer.max_steps=3", "ckpt_path=last")[0] == 0
    assert [row["step"] for row in read_metrics("run/csv/metrics.csv")] == ["1", "2", "3"]
