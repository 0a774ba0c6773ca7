"""An interrupted run's losses and weights equal an uninterrupted one's, bit for bit."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from live import Live
from tiny_training import TINY, tiny_config
from unirae.app.run.assembly import assemble
from unirae.core.errors import ConfigError
from unirae.core.io import load_tensors
from unirae.training.csv_logger import read_metrics

TRAIN = Path(__file__).parents[2] / "src" / "train.py"
MUON = "model.optimizer.kind=muon"
SPEED = ("train/images_per_s", "train/time_left_s")


class Crash(pl.Callback):
    """The power goes off after a step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step == self.step:
            raise ZeroDivisionError


def run(folder: Path, stage: str, *overrides: str, checkpoint: Path | None = None, crash_at: int = 0) -> None:
    config = tiny_config(*overrides, output_dir=folder, stage=stage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready = assemble(config, experiment="tiny", checkpoint=checkpoint)
        ready.trainer.callbacks.append(Crash(crash_at))
        ready.fit()


def metrics(folder: Path) -> list[dict[str, str]]:
    rows = read_metrics(folder / "csv" / "metrics.csv")
    return [{name: value for name, value in row.items() if name not in SPEED} for row in rows]


def assert_same_run(found: Path, wanted: Path) -> None:
    assert metrics(found) == metrics(wanted)
    mine, theirs = (load_tensors(folder / "checkpoints" / "last.ckpt") for folder in (found, wanted))
    assert mine["global_step"] == theirs["global_step"]
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(mine[key], theirs[key], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("stage", "others"),
    [("stage1", []), ("mae", []), ("stage2", []), ("stage1", [MUON]), ("stage2", [MUON])],
    ids=["stage1", "mae", "stage2", "stage1-muon", "stage2-muon"],
)
def test_continuing_after_a_crash_changes_nothing(tmp_path, stage, others):
    overrides = ["trainer.max_steps=8", "callbacks.model_checkpoint.every_n_train_steps=5", *others]
    if stage == "stage1":
        overrides += ["callbacks.reconstruction_metrics.every_n_steps=3"]
    run(tmp_path / "whole", stage, *overrides)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "parts", stage, *overrides, crash_at=7)
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    assert load_tensors(last)["global_step"] == 5  # step 6 was made, and is made again
    run(tmp_path / "parts", stage, *overrides, checkpoint=last)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    rows = metrics(tmp_path / "whole")
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    assert len({row["train/loss"] for row in rows}) == 8
    if stage == "stage1":
        assert [bool(row["train/adaptive_weight"]) for row in rows] == [False] * 2 + [True] * 6
        assert [bool(row["val/psnr"]) for row in rows] == [False] * 2 + [True] + [False] * 2 + [
            True,
            False,
            True,
        ]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_so_it_is_when_blocks_are_compiled(tmp_path, stage):
    overrides = (
        "trainer.max_steps=6",
        "callbacks.model_checkpoint.every_n_train_steps=3",
        "trainer.compile=true",
        "trainer.precision=bf16-mixed",
    )
    run(tmp_path / "whole", stage, *overrides)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "parts", stage, *overrides, crash_at=4)
    run(tmp_path / "parts", stage, *overrides, checkpoint=tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


# ---------------------------------------------------------------- the real thing

LONG = (
    "trainer.max_steps=100",
    "model.disc_upd_start_step=10",
    "model.disc_start_step=15",
    "callbacks.model_checkpoint.every_n_train_steps=20",
    "model.sample_every=1000000",
    "data.num_workers=1",
)


def test_a_killed_and_then_interrupted_process_continues_exactly(tmp_path):
    """The last of three, which goes to the end, is the script in an interpreter of its own."""
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    last = parts / "checkpoints/last.ckpt"
    words = [*TINY["stage1"], *LONG, f"paths.output_dir={parts}"]
    killed = Live("train", *words, folder=tmp_path)
    killed.wait_for(last.exists)
    killed.signal(signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL

    saved = last.stat().st_mtime_ns
    interrupted = Live("train", *words, "ckpt_path=last", folder=tmp_path)
    interrupted.wait_for(lambda: last.stat().st_mtime_ns != saved)
    interrupted.signal(signal.SIGINT)
    assert interrupted.end() == 130, interrupted.output
    step, message = load_tensors(last)["global_step"], interrupted.last_line()
    assert message.startswith(f"interrupted after step {step}; everything is saved in {last}")
    assert f"ckpt_path=last paths.output_dir={parts}" in message
    assert "Traceback" not in interrupted.output
    assert 20 < step < 100

    command = [sys.executable, TRAIN, *words, "ckpt_path=last"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run(whole, "stage1", *LONG, "data.num_workers=0")
    assert_same_run(parts, whole)
    assert [int(row["step"]) for row in metrics(parts)] == list(range(1, 101))


def test_a_run_from_before_a_switch_of_the_decoder_goes_on(tmp_path):
    run(tmp_path / "a", "stage1", "trainer.max_steps=1")
    checkpoint = tmp_path / "a/checkpoints/last.ckpt"
    content = torch.load(checkpoint, weights_only=False)
    decoder = content["unirae"]["rae"]["decoder"]
    del decoder["output"], decoder["deblocking"]
    torch.save(content, checkpoint)
    run(tmp_path / "a", "stage1", "trainer.max_steps=2", checkpoint=checkpoint)
    assert int(metrics(tmp_path / "a")[-1]["step"]) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.decoder.output=unit", r"model\.decoder\.output encoder_pixels there, unit here"),
        ("model.decoder.deblocking=4", r"model\.decoder\.deblocking 0 there, 4 here"),
        ("model.encoder.layers=[0,1]", r"model\.encoder\.layers None there, \[0, 1\] here"),
        (
            "model.encoder.mean=[0.1,0.1,0.1]",
            r"model\.encoder\.pixel_mean .* there, \[0\.1, 0\.1, 0\.1\] here",
        ),
    ],
)
def test_a_run_does_not_continue_on_another_autoencoder(tmp_path, override, message):
    run(tmp_path / "a", "stage1", "trainer.max_steps=1")
    checkpoint = tmp_path / "a/checkpoints/last.ckpt"
    with pytest.raises(ConfigError, match=f"continues a run whose autoencoder was another: {message}"):
        run(tmp_path / "a", "stage1", "trainer.max_steps=2", override, checkpoint=checkpoint)
