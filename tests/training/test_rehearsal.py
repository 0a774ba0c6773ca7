"""The estimate of a step's memory against what torch's allocator hands out in the real step."""

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from tiny_training import fit, rehearsed, tiny_config
from unirae.app.run.builders import build_rae
from unirae.app.run.stages.stage1 import build_stage1
from unirae.training.precision import ManualMixedPrecision
from unirae.training.rehearsal import MemoryEstimate, rehearse

TOLERANCE = 0.1
STEP = 3


class Measure(pl.Callback):
    """The estimate at the start, and the allocator's highest level during a later step."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.estimate = rehearsed(trainer, module)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        # a step early: the profiler knows nothing of the freeing of what it has not seen made, such as gradients
        if trainer.global_step == STEP - 1:
            self.before = sum(
                t.untyped_storage().nbytes() for t in {id(t): t for t in tensors_of(trainer, module)}.values()
            ) + sum(t.untyped_storage().nbytes() for t in batch.values())
            self.profiler = torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
            )
            self.profiler.__enter__()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == STEP + 1:
            self.profiler.__exit__(None, None, None)
            results: Any = self.profiler.profiler.kineto_results  # pyright: ignore
            events = [event for event in results.events() if event.name() == "[memory]"]
            events.sort(key=lambda event: event.start_ns())
            level = torch.tensor([event.nbytes() for event in events]).cumsum(0)
            self.measured = self.before + int(level.max())


def tensors_of(trainer: Any, module: Any) -> list[torch.Tensor]:
    """All that lives between two steps: weights, the optimizers' states, narrow copies; not gradients."""
    found = [*module.parameters(), *module.buffers()]
    for optimizer in trainer.optimizers:
        found += [t for state in optimizer.state.values() for t in state.values()]
    if not isinstance(trainer.precision_plugin, ManualMixedPrecision):
        return found
    narrow = trainer.precision_plugin.narrow
    in_file = set(map(id, narrow.mapped))
    return [t for t in found if id(t) not in in_file] + narrow.copies


GAN = ("model.disc_upd_start_step=0", "model.disc_start_step=0")
FP32, BF16 = "trainer.precision=32-true", "trainer.precision=bf16-mixed"
CASES = {
    "DiT^DH": ("stage2", (FP32,)),
    "DiT^DH, bf16": ("stage2", (BF16,)),
    "DiT^DH, recomputed": ("stage2", (FP32, "model.dit.gradient_checkpointing=true")),
    "DiT^DH, four micro-batches": ("stage2", (FP32, "trainer.accumulate_grad_batches=4")),
    "stage 1 without GAN": ("stage1", (FP32, "model.disc_weight=0")),
    "stage 1 with GAN": ("stage1", (FP32, *GAN)),
    "stage 1 with GAN, bf16": ("stage1", (BF16, *GAN)),
    "stage 1 with GAN, recomputed": ("stage1", (FP32, *GAN, "model.decoder.gradient_checkpointing=true")),
    "stage 0": ("mae", (FP32,)),
    "linear probe": ("linear_probe", (FP32,)),
}
LARGER = {
    "stage2": ("model.dit.hidden_size=[48,96]", "model.dit.depth=[6,2]", "model.dit.num_heads=[4,8]"),
    "stage1": ("model.decoder.width=64", "model.decoder.depth=6"),
    "mae": (),
    "linear_probe": (),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Measure]:
    """A case's estimate and measurement, made once."""

    @cache
    def measure(case: str) -> Measure:
        stage, overrides = CASES[case]
        config = tiny_config(
            f"trainer.max_steps={STEP + 1}",
            "data.global_batch_size=16",
            *LARGER[stage],
            *overrides,
            output_dir=tmp_path_factory.mktemp("run"),
            stage=stage,
        )
        found = Measure()
        fit(config, callbacks=[found])
        return found

    return measure


@pytest.mark.parametrize("case", CASES)
def test_the_estimate_is_near_what_a_step_takes(measured: Callable[[str], Measure], case: str) -> None:
    found = measured(case)
    assert found.estimate.peak == pytest.approx(found.measured, rel=TOLERANCE)


def test_a_rehearsal_leaves_the_module_as_it_is(tmp_path: Path) -> None:
    class Rehearse(Measure):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            super().on_train_start(trainer, module)
            assert all(p.grad is None for p in module.parameters())
            assert type(next(module.parameters()).data) is torch.Tensor

    config = tiny_config("trainer.max_steps=2", *GAN, output_dir=tmp_path)
    rehearsed = fit(config, callbacks=[Rehearse()]).state_dict()
    plain = fit(config).state_dict()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in rehearsed.items())


def test_networks_without_weights_are_rehearsed_like_others_and_memory_is_linear(tmp_path: Path) -> None:
    config = tiny_config("trainer.max_steps=1", "data.global_batch_size=16", *GAN, output_dir=tmp_path)
    measure = Measure()
    plugin = fit(config, callbacks=[measure]).trainer.precision_plugin
    with torch.device("meta"):
        rae = build_rae(config["model"], seed=0)
        module = build_stage1(config, rae, steps_per_epoch=4)
    number, image = torch.zeros((), dtype=torch.int64), torch.zeros((3, 32, 32), dtype=torch.uint8)
    sample = {"image": image, "label": number, "index": number}
    found = {size: rehearse(module, plugin, sample, size) for size in (16, 64, 128)}
    assert found[16].peak == pytest.approx(measure.estimate.peak, rel=0.01)
    assert found[16].weights == measure.estimate.weights
    assert all(p.is_meta for p in module.parameters())
    per_image = (found[128].peak - found[16].peak) / 112
    assert found[64].peak == pytest.approx(found[16].peak + 48 * per_image, rel=0.01)


@pytest.mark.parametrize("case", ["DiT^DH, recomputed", "DiT^DH, four micro-batches"])
def test_recomputing_and_fewer_images_take_less(measured: Callable[[str], Measure], case: str) -> None:
    plain = measured("DiT^DH").estimate.activations
    assert measured(case).estimate.activations < 0.6 * plain


class Watches(pl.Callback):
    """Does something with what the network returns."""

    def __init__(self, act: Callable[[torch.Tensor], Any]) -> None:
        self.act = act

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        def watch(network: Any, args: Any, out: torch.Tensor) -> None:
            self.act(out.detach())

        module.denoiser.output.register_forward_hook(watch)  # a step asks for `predict`, which has no hooks


READS = {"a number": lambda x: x.sum().item(), "numpy": lambda x: x.numpy(), "a choice": lambda x: x[x > 0]}


@pytest.mark.parametrize("read", READS)
def test_a_network_that_reads_numbers_is_trained_without_an_estimate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, read: str
) -> None:
    config = tiny_config("trainer.max_steps=2", FP32, output_dir=tmp_path, stage="stage2")
    with caplog.at_level(logging.INFO, logger="unirae"):
        plain = fit(config, callbacks=[MemoryEstimate()]).state_dict()
        assert "memory per device, estimated" in caplog.text
        caplog.clear()
        trained = fit(config, callbacks=[Watches(READS[read]), MemoryEstimate()]).state_dict()
    (said,) = [r for r in caplog.records if r.getMessage().startswith("memory per device")]
    assert said.levelno == logging.WARNING
    assert "no estimate, the step cannot be rehearsed" in said.getMessage()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in plain.items())


def test_a_mistake_in_the_rehearsal_is_not_hidden(tmp_path: Path) -> None:
    def mistake(out: torch.Tensor) -> None:
        if isinstance(out, FakeTensor):
            raise AttributeError("a mistake")

    config = tiny_config("trainer.max_steps=1", FP32, output_dir=tmp_path, stage="stage2")
    with pytest.raises(AttributeError, match="a mistake"):
        fit(config, callbacks=[Watches(mistake), MemoryEstimate()])
