"""SIGINT, SIGTERM and SIGHUP, to a run and to its whole group, in the middle of whatever a run does."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from test_resume import assert_same_run, metrics, run

from live import Live
from tiny_training import TINY
from unirae.core.io import load_tensors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

RUN = (
    "trainer.max_steps=60",
    "callbacks.model_checkpoint.every_n_train_steps=20",
    "model.sample_every=1000000",
)


def train(folder: Path, *overrides: str, stage: str = "stage1", before=None) -> Live:
    words = [*TINY[stage], *RUN, f"paths.output_dir={folder / 'run'}", *overrides]
    return Live("train", *words, folder=folder, before=before)


def step_of(folder: Path) -> int:
    return load_tensors(folder / "run/checkpoints/last.ckpt")["global_step"]


def is_saved(folder: Path) -> bool:
    return (folder / "run/checkpoints/last.ckpt").exists()


def slow_steps(seconds: float = 0.05) -> None:
    from unirae.training.stage1 import Stage1

    original = Stage1.training_step

    def training_step(self, *args):
        time.sleep(seconds)
        return original(self, *args)

    Stage1.training_step = training_step


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, "stage1", *RUN)
    return folder


def assert_stopped(live: Live, status: int = 130) -> None:
    assert live.end() == status, live.output
    assert "Traceback" not in live.output
    assert live.last_line().startswith("interrupted")
    assert live.output.count("interrupted") == 1
    assert live.is_alone()


@pytest.mark.parametrize(
    ("number", "group", "times"),
    [
        (signal.SIGTERM, True, 2),  # timeout sends it to its child and then to the child's group
        pytest.param(signal.SIGHUP, True, 1, marks=pytest.mark.slow),  # below, while a checkpoint is written
        pytest.param(signal.SIGTERM, True, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, False, 1, marks=pytest.mark.slow),
    ],
)
def test_during_a_step(tmp_path, whole, number, group, times):
    live = train(tmp_path, "data.num_workers=2", before=slow_steps)
    live.wait_for(partial(is_saved, tmp_path))
    live.signal(number, group=group, times=times)
    assert_stopped(live)
    step = step_of(tmp_path)
    assert 20 <= step < 60
    assert live.last_line().startswith(f"interrupted after step {step}; everything is saved in ")
    run(tmp_path / "run", "stage1", *RUN, checkpoint=tmp_path / "run/checkpoints/last.ckpt")
    assert_same_run(tmp_path / "run", whole)


def slow_disk() -> None:
    original = os.fsync
    os.fsync = lambda file: (time.sleep(1), original(file))


def test_while_a_checkpoint_is_written(tmp_path, whole):
    live = train(tmp_path, "data.num_workers=1", before=slow_disk)
    live.wait_for(lambda: any((tmp_path / "run/checkpoints").glob(".last.ckpt.*.tmp")))
    live.signal(signal.SIGHUP, group=True)
    assert_stopped(live)
    assert step_of(tmp_path) == 20
    assert not any((tmp_path / "run/checkpoints").glob(".*.tmp"))
    run(tmp_path / "run", "stage1", *RUN, checkpoint=tmp_path / "run/checkpoints/last.ckpt")
    assert_same_run(tmp_path / "run", whole)


SCORED = (
    "trainer.max_steps=6",
    "data.source.val_count=600",
    "callbacks.reconstruction_metrics.every_n_epochs=null",
)


@pytest.mark.parametrize("every", [6, pytest.param(3, marks=pytest.mark.slow)])
def test_scoring_is_left_for_the_run_that_continues(tmp_path, every):
    scored = (*RUN, *SCORED, f"callbacks.reconstruction_metrics.every_n_steps={every}")
    run(tmp_path / "whole", "stage1", *scored)
    live = train(tmp_path, *scored[len(RUN) :], "data.num_workers=1", before=slow_reconstruction)
    live.wait_for(f"step {every}: scoring")
    live.signal(signal.SIGTERM, group=True)
    started = time.monotonic()
    assert_stopped(live)
    assert time.monotonic() - started < 20  # the whole of it would take a minute
    assert step_of(tmp_path) == every
    assert "val/psnr" not in metrics(tmp_path / "run")[-1]
    again = train(tmp_path, *scored[len(RUN) :], "data.num_workers=1", "ckpt_path=last")
    assert again.end() == 0, again.output
    assert f"step {every}: scoring" in again.output
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert [row["val/psnr"] != "" for row in metrics(tmp_path / "run")][every - 1]
    assert {p.name for p in (tmp_path / "run/eval").iterdir()} == {
        p.name for p in (tmp_path / "whole/eval").iterdir()
    }
    third = train(tmp_path, *scored[len(RUN) :], "ckpt_path=last")
    assert third.end() == 0
    assert "finished at step 6" in third.last_line()


def slow_reconstruction() -> None:
    from unirae.models.rae import RAE

    original = RAE.reconstruct

    def reconstruct(self, images):
        time.sleep(1)
        return original(self, images)

    RAE.reconstruct = reconstruct


@pytest.mark.parametrize("cached", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_before_the_first_step(tmp_path, cached):
    words = ["data.source.train_count=4000", "data.num_workers=1"]
    if cached:
        words += [f"data.latent_cache={tmp_path / 'cache'}", "callbacks.generation_metrics.metrics=[]"]
    live = train(tmp_path, *words, stage="stage2", before=slow_encoder)
    live.wait_for("computing them over 4000 images")
    live.signal(signal.SIGTERM, group=True)
    assert_stopped(live)
    assert live.last_line() == "interrupted before a step was made. To continue, repeat the command"
    assert not any(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "run/latent_stats.pt").exists()


def slow_encoder() -> None:
    from unirae.models.rae import RAE

    original = RAE.tokens

    def tokens(self, images):
        time.sleep(0.2)
        return original(self, images)

    RAE.tokens = tokens


def hang() -> None:
    from unirae.training.stage1 import Stage1

    def training_step(self, *args):
        sys.stderr.write("hanging\n")
        time.sleep(300)

    Stage1.training_step = training_step


def hang_in_c() -> None:
    """Where no handler of Python's runs: a native call that does not come back."""
    import ctypes

    from unirae.training.stage1 import Stage1

    def training_step(self, *args):
        sys.stderr.write("hanging\n")
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            ctypes.CDLL(None).usleep(ctypes.c_uint(300_000_000))

    Stage1.training_step = training_step


@pytest.mark.parametrize("how", [hang_in_c, pytest.param(hang, marks=pytest.mark.slow)])
def test_the_second_signal_ends_at_once(tmp_path, how):
    live = train(tmp_path, "data.num_workers=2", before=how)
    live.wait_for("hanging")
    live.signal(signal.SIGINT)
    live.wait_for("press ctrl-C again to stop at once")
    assert live.process.is_alive()
    live.signal(signal.SIGINT)
    started = time.monotonic()
    assert live.end() == 130
    assert time.monotonic() - started < 3
    assert live.last_line() == "interrupted twice: stopped at once"
    assert live.is_alone()


def ignore_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.slow
def test_nohup(tmp_path):
    live = train(tmp_path, "data.num_workers=1", "trainer.max_steps=30", before=ignore_hangup)
    live.wait_for("step 2/30")
    live.signal(signal.SIGHUP, group=True)
    assert live.end() == 0, live.output
    assert step_of(tmp_path) == 30


def test_workers_end_with_a_killed_parent(tmp_path):
    live = train(tmp_path, "data.num_workers=2", before=hang)
    live.wait_for("hanging")
    children = live.others_in_group()
    assert len(children) == 2
    live.signal(signal.SIGTERM, group=True)
    time.sleep(0.2)
    assert live.others_in_group() == children
    live.signal(signal.SIGKILL)
    assert live.end() == -signal.SIGKILL
    assert live.is_alone(15)


@pytest.mark.slow
def test_at_the_end(tmp_path):
    live = train(tmp_path, "trainer.max_steps=6", before=slow_disk)
    live.wait_for("step 6: psnr")
    live.signal(signal.SIGTERM)
    assert live.end() == 130
    assert live.last_line() == "interrupted at the end: the run is finished (step 6) and saved"
    assert step_of(tmp_path) == 6
