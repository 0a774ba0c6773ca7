"""Stage 2 with its denoiser sharded over two processes: the run, and the files, of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from threads_at_exit import gloo_threads, observing
from tiny_training import RAEV2, TINY, tiny_config
from unirae.app.run.trainer import build_trainer
from unirae.core.errors import ConfigError
from unirae.core.io import load_tensors
from unirae.models.checkpoints.opening import load_dit
from unirae.training.csv_logger import read_metrics

TRAIN = Path(__file__).parents[2] / "src" / "train.py"
TWO = ("trainer.devices=2", "trainer.accelerator=cpu")
SHARDED = (*TWO, "trainer.strategy=fsdp")
EXTRA = (
    "model.ema_extra_decays=[0.5]",
    "trainer.accumulate_grad_batches=2",
    "model.dit.gradient_checkpointing=true",
    "callbacks.model_checkpoint.keep_every_n_steps=4",
)


def train(folder: Path, *overrides: str, python_path: str = str(TRAIN.parent)) -> Path:
    """The command, which starts its second process itself."""
    subprocess.run(
        [sys.executable, TRAIN, *TINY["stage2"], *EXTRA, f"paths.output_dir={folder}", *overrides],
        cwd=folder.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path},
        check=True,
        capture_output=True,
    )
    return folder


def column(folder: Path, name: str) -> torch.Tensor:
    return torch.tensor(
        [float(row[name]) for row in read_metrics(folder / "csv" / "metrics.csv") if row[name]]
    )


def assert_same_run(found: Path, wanted: Path) -> None:
    for name in ("train/loss", "train/grad_norm"):
        torch.testing.assert_close(column(found, name), column(wanted, name), rtol=1e-4, atol=0)
    mine, theirs = (load_tensors(folder / "checkpoints" / "last.ckpt") for folder in (found, wanted))
    assert mine["global_step"] == theirs["global_step"]
    assert mine["state_dict"].keys() == theirs["state_dict"].keys()
    for name, tensor in theirs["state_dict"].items():
        # float32: Adam turns rounding errors of vanishing gradients into steps of up to lr
        assert (mine["state_dict"][name] - tensor).abs().mean() < 1e-5, name
    (own,), (their,) = mine["optimizer_states"], theirs["optimizer_states"]
    assert own["param_groups"] == their["param_groups"]
    for index, state in their["state"].items():
        assert own["state"][index]["step"] == state["step"]
        for name in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(own["state"][index][name], state[name], rtol=1e-2, atol=1e-5)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("one") / "run", "trainer.max_steps=8")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    observed = observing(folder / "threads", TRAIN.parent)
    return train(folder / "run", "trainer.max_steps=8", *SHARDED, python_path=observed)


@pytest.mark.slow
def test_two_shards_train_and_save_what_one_process_does(one, sharded):
    assert_same_run(sharded, one)
    assert (sharded / "samples" / "step-0000008.png").exists()
    torch.testing.assert_close(
        column(sharded, "val/fd_random_mae"), column(one, "val/fd_random_mae"), rtol=1e-2, atol=0
    )


@pytest.mark.slow
def test_two_shards_train_raev2s_two_heads_as_one_process_does(tmp_path):
    overrides = ("trainer.max_steps=4", *RAEV2)
    one, two = train(tmp_path / "one", *overrides), train(tmp_path / "two", *overrides, *SHARDED)
    assert_same_run(two, one)
    for name in ("train/loss_full", "train/loss_base"):
        torch.testing.assert_close(column(two, name), column(one, name), rtol=1e-4, atol=0)


@pytest.mark.slow
def test_two_shards_follow_one_process_in_bf16(tmp_path):
    overrides = ("trainer.max_steps=4", "trainer.precision=bf16-mixed")
    one, two = train(tmp_path / "one", *overrides), train(tmp_path / "two", *overrides, *SHARDED)
    torch.testing.assert_close(column(two, "train/loss"), column(one, "train/loss"), rtol=1e-3, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [TWO, SHARDED], ids=["ddp", "fsdp"])
def test_two_processes_with_compiled_blocks(tmp_path, one, strategy):
    assert_same_run(train(tmp_path / "run", "trainer.max_steps=8", "trainer.compile=true", *strategy), one)


@pytest.mark.slow
def test_the_group_is_left_at_the_end(sharded):
    assert gloo_threads(sharded.parent / "threads", processes=2) == set()


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [((), SHARDED), (SHARDED, ()), (SHARDED, SHARDED)])
def test_a_run_continues_with_another_strategy(tmp_path, one, first, then):
    run = train(tmp_path / "run", "trainer.max_steps=4", *first)
    train(run, "trainer.max_steps=8", "ckpt_path=last", *then)
    assert_same_run(run, one)


@pytest.mark.slow
def test_one_process_reads_a_sharded_checkpoint(sharded):
    network = load_dit(sharded / "checkpoints" / "last.ckpt")
    average = load_tensors(sharded / "checkpoints" / "last.ckpt")["state_dict"]
    assert all(torch.equal(tensor, average[f"ema.{name}"]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("stage", "overrides", "message"),
    [
        ("stage1", SHARDED, "shards the denoiser of stage 2"),
        ("stage2", ("trainer.strategy=fsdp", "trainer.devices=1"), "needs several devices"),
        ("stage2", (*SHARDED, "trainer.precision=16-mixed"), "gradient scaler"),
        ("stage2", (*SHARDED, "model.optimizer.kind=muon"), "makes whole matrices orthogonal"),
        ("stage2", (*TWO, "trainer.strategy=zero"), "give ddp or fsdp"),
    ],
)
def test_what_cannot_be_sharded_is_refused(tmp_path, stage, overrides, message):
    with pytest.raises(ConfigError, match=message):
        build_trainer(tiny_config(*overrides, output_dir=tmp_path, stage=stage), output_dir=tmp_path)
