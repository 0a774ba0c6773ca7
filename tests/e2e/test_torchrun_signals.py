"""Signals to torchrun and its group while two processes train: both save together, one of them says so."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny_training import TINY
from unirae.core.io import load_tensors

pytestmark = pytest.mark.slow

TRAIN = Path(__file__).parents[2] / "src/train.py"
TWO = ("trainer.devices=2", "trainer.accelerator=cpu", "data.num_workers=1", "trainer.max_steps=4000")


class Torchrun:
    """Two processes in ``folder``, which write to one file."""

    def __init__(self, folder: Path, stage: str, *overrides: str) -> None:
        self.console, self.last = folder / "console.txt", folder / "run/checkpoints/last.ckpt"
        words = [*TINY[stage], *TWO, f"paths.output_dir={folder / 'run'}", *overrides]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        with open(self.console, "wb") as console:
            self.process = subprocess.Popen(
                [*command, str(TRAIN), *words],
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.console.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + 180
        while words not in self.output:
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"waited in vain for {words}:\n{self.output[-3000:]}")
            time.sleep(0.05)

    def stop(self, number: int) -> list[str]:
        """Signal the group and wait: the lines of ours."""
        os.killpg(self.process.pid, number)
        self.process.wait(60)
        ours = self.output.split("Traceback")[0]  # torchrun's own end, after that of its processes
        assert "src/unirae" not in self.output.split("Traceback")[-1]
        return [line for line in ours.splitlines() if line.startswith("interrupted")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_during_a_step(tmp_path, number):
    run = Torchrun(tmp_path, "stage1", "callbacks.model_checkpoint.every_n_train_steps=20")
    run.wait_for("step 25/4000")
    (line,) = run.stop(number)
    step = load_tensors(run.last)["global_step"]
    assert step >= 25
    assert line.startswith(f"interrupted after step {step}; everything is saved in {run.last}")


def test_an_evaluation_that_two_processes_began_is_finished(tmp_path):
    run = Torchrun(
        tmp_path,
        "stage1",
        "data.source.val_count=3000",
        "callbacks.reconstruction_metrics.every_n_epochs=null",
        "callbacks.reconstruction_metrics.every_n_steps=5",
    )
    run.wait_for("step 5: scoring")
    (line,) = run.stop(signal.SIGTERM)
    step = load_tensors(run.last)["global_step"]
    assert line.startswith(f"interrupted after step {step}; ")
    assert (tmp_path / "run/eval/step-0000005.json").exists()


@pytest.mark.parametrize("cache", ["null", "cache"])
def test_before_the_first_step(tmp_path, cache):
    run = Torchrun(
        tmp_path,
        "stage2",
        *("data.source.train_count=6000", f"data.latent_cache={cache}"),
        "callbacks.generation_metrics.metrics=[]",
    )
    run.wait_for("computing them over 6000 images")
    lines = run.stop(signal.SIGTERM)
    assert lines == ["interrupted before a step was made. To continue, repeat the command"]
    assert not any(tmp_path.rglob("*.tmp"))
