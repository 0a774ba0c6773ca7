"""Training on a GPU: the losses of a CPU, resumed runs, and steps in which the host never waits."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from gpu.training_runs import CASES, STEPS, saved, terms, train
from training.test_host_and_graph import NoWaiting
from unirae.core.keyed_random import Stream, sample_keys, uniform
from unirae.flow.times import sample_times

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
CPU = torch.device("cpu")


@pytest.mark.parametrize("case", CASES)
def test_losses_are_those_of_a_cpu(tmp_path: Path, device: torch.device, case: str) -> None:
    """Equal draws, equal weights: in fp32 what differs is rounding."""
    train(tmp_path / "cpu", case, CPU)
    wanted = terms(tmp_path / "cpu")
    for precision, first, rest in (("32-true", 1e-3, 5e-3), ("bf16-mixed", 0.03, 0.1)):
        folder = tmp_path / precision
        train(folder, case, device, f"trainer.precision={precision}")
        found = terms(folder)
        assert found.keys() == wanted.keys()
        assert all(len(values) == STEPS and values.isfinite().all() for values in found.values())
        for name in set(found) & {"train/loss", "train/l1", "train/perceptual", "train/masked"}:
            torch.testing.assert_close(found[name][:1], wanted[name][:1], rtol=first, atol=0, msg=name)
            torch.testing.assert_close(found[name], wanted[name], rtol=rest, atol=0, msg=name)
        torch.testing.assert_close(found["train/lr"], wanted["train/lr"])


def test_draws_are_the_same_on_both(device: torch.device) -> None:
    keys = sample_keys(3, 5, torch.arange(4096))
    draws = uniform(keys, (), Stream.TIME)
    there = uniform(sample_keys(3, 5, torch.arange(4096, device=device)), (), Stream.TIME)
    assert torch.equal(there.cpu(), draws)
    times = sample_times("logit_normal", there).cpu()
    torch.testing.assert_close(times, sample_times("logit_normal", draws), rtol=1e-6, atol=0)


@pytest.mark.parametrize("case", ["stage 1, DINO and LPIPS", "stage 2"])
def test_fp16_with_its_gradient_scaler(tmp_path: Path, cuda: torch.device, case: str) -> None:
    train(tmp_path / "16", case, cuda, "trainer.precision=16-mixed")
    train(tmp_path / "32", case, cuda)
    half, full = terms(tmp_path / "16"), terms(tmp_path / "32")
    assert half["train/loss"].isfinite().all()
    torch.testing.assert_close(
        half["train/l1" if "1" in case else "train/loss"][0],
        full["train/l1" if "1" in case else "train/loss"][0],
        rtol=0.03,
        atol=0,
    )


class Crash(pl.Callback):
    """The power goes off after a step."""

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.global_step == 4:
            raise ZeroDivisionError


@pytest.mark.parametrize("case", ["stage 1", "stage 1, DINO and LPIPS", "stage 2", "stage 0"])
def test_continuing_after_a_crash_changes_nothing(tmp_path: Path, device: torch.device, case: str) -> None:
    """Bit for bit where torch is told to be deterministic."""
    settings = ["trainer.deterministic=true", "callbacks.model_checkpoint.every_n_train_steps=3"]
    try:
        train(tmp_path / "whole", case, device, *settings)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path / "parts", case, device, *settings, callbacks=[Crash()])
        last = tmp_path / "parts/checkpoints/last.ckpt"
        train(tmp_path / "parts", case, device, *settings, checkpoint=last)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(saved(tmp_path / "parts"), saved(tmp_path / "whole"), rtol=0, atol=0)
    torch.testing.assert_close(
        terms(tmp_path / "parts"), terms(tmp_path / "whole"), rtol=0, atol=0, equal_nan=True
    )


class NeverWait(pl.Callback):
    """Steps that are not logged must not make the host wait for the device."""

    def __init__(self, every: int) -> None:
        self.every, self.watched = every, 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        step = module.training_step

        def watched(batch: Any, batch_idx: int) -> None:
            if (trainer.global_step + 1) % self.every == 0 or trainer.global_step == 0:
                return step(batch, batch_idx)
            self.watched += 1
            if module.device.type != "cuda":
                with NoWaiting():
                    return step(batch, batch_idx)
            torch.cuda.set_sync_debug_mode("error")
            try:
                return step(batch, batch_idx)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        module.training_step = watched


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("case", CASES)
def test_the_host_waits_only_where_a_step_is_logged(
    tmp_path: Path, device: torch.device, case: str, precision: str
) -> None:
    watch = NeverWait(3)
    settings = ("trainer.max_steps=6", "trainer.log_every_n_steps=3", f"trainer.precision={precision}")
    train(tmp_path, case, device, *settings, callbacks=[watch])
    assert watch.watched == 3
