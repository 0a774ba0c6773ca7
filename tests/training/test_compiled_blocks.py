"""Blocks that torch.compile fuses within steps: the same training, and nothing of it outside of them."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from tiny_training import TINY, fit
from unirae.app import trainer as app_trainer
from unirae.app.composition import compose
from unirae.app.trainer import resolve_compile
from unirae.core import hardware
from unirae.core.errors import ConfigError
from unirae.training.callbacks.compiled_blocks import CompiledBlocks, repeated_blocks

DINO = (
    "model/discriminator=dino",
    "model.discriminator.weights=random",
    "model.discriminator.width=32",
    "model.discriminator.depth=3",
    "model.discriminator.num_heads=2",
    "model.discriminator.input_size_px=32",
    "model.discriminator.key_depths=[1]",
    "model.disc_upd_start_step=0",
    "model.disc_start_step=0",
)
STAGES: dict[str, tuple[str, tuple[str, ...], int]] = {
    "mae": ("mae", (), 3),
    "stage1": ("stage1", ("model.decoder.depth=2",), 4),
    "stage1, DINO": ("stage1", DINO, 8),
    "stage2": ("stage2", ("trainer.accumulate_grad_batches=2",), 4),
    "linear_probe": ("linear_probe", (), 2),
}


class Watch(pl.Callback):
    """Which blocks are the compiled ones within a step, and after it."""

    def __init__(self) -> None:
        self.within: list[int] = []
        self.after: list[int] = []

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.within.append(compiled(module))

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.after.append(compiled(module))


def compiled(module: nn.Module) -> int:
    return sum(part._compiled_call_impl is not None for part in module.modules())


def train(folder: Path, stage: str, *overrides: str, callbacks: tuple[pl.Callback, ...] = ()) -> Any:
    own = [o for o in TINY[stage] if DINO[0] not in overrides or "discriminator." not in o]
    config = compose([*own, f"paths.output_dir={folder}", *overrides])
    return fit(config, callbacks=callbacks)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's front end alone, which refuses what would break a graph; no C++ compiler is asked for."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))


def assert_same_training(folder: Path, name: str) -> None:
    """Of the first step all that is logged; later ones less, since Adam makes whole steps of vanishing gradients."""
    stage, overrides, blocks = STAGES[name]
    for steps, tolerance in ((1, 1e-4), (4, 1e-2)):
        length, watch = f"trainer.max_steps={steps}", Watch()
        found = train(folder / "on", stage, *overrides, length, callbacks=(CompiledBlocks(), watch))
        assert (watch.within, watch.after) == ([blocks] * steps, [0] * steps)
        wanted = train(folder / "off", stage, *overrides, length)
        assert found.last_terms == pytest.approx(wanted.last_terms, rel=tolerance)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", STAGES)
def test_every_stage_trains_as_without(tmp_path: Path, name: str) -> None:
    assert_same_training(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stage1, DINO", "stage2"])
def test_the_compiler_changes_nothing_but_time(tmp_path: Path, name: str) -> None:
    torch._dynamo.reset()
    assert_same_training(tmp_path, name)


@pytest.mark.usefixtures("traced")
def test_a_step_that_breaks_off_leaves_the_blocks_as_they_were(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Breaks(pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            seen.append(module)
            raise KeyError("in the middle of a step")

    with pytest.raises(KeyError):
        train(tmp_path, "stage2", "trainer.max_steps=1", callbacks=(CompiledBlocks(), Breaks()))
    assert compiled(seen[0]) == 0


def test_blocks_are_what_the_outermost_lists_hold() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2)]))
    network = nn.Sequential(nn.ModuleList([inner, nn.Linear(2, 2)]), nn.Linear(2, 2))
    assert repeated_blocks(network) == [inner, network[0][1]]
    assert repeated_blocks(nn.Linear(2, 2)) == []


# --------------------------------------------------------------- the option


def settings(compile: Any) -> dict[str, Any]:
    return {"compile": compile, "accelerator": "cpu"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices for which someone asked whether the compiler works; it does not."""
    devices: list[str] = []

    def problem(device_type: str) -> str:
        devices.append(device_type)
        return "no C++ compiler"

    monkeypatch.setattr(app_trainer, "compiler_problem", problem)
    return devices


def test_short_runs_do_not_wait_for_the_compiler(asked: list[str]) -> None:
    assert resolve_compile(settings("auto"), None, max_steps=4999) is False
    assert resolve_compile(settings(False), None, max_steps=10**6) is False
    assert asked == []


def test_without_a_compiler_long_runs_go_on_and_say_so(asked: list[str], caplog: Any) -> None:
    assert resolve_compile(settings("auto"), None, max_steps=5000) is False
    assert asked == ["cpu"]
    assert "no C++ compiler" in caplog.text


def test_who_asks_for_it_is_told_that_it_does_not_work(asked: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.compile=true.*no C\+\+ compiler"):
        resolve_compile(settings(True), None, max_steps=10)


def test_where_the_compiler_works_long_runs_and_those_who_ask_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app_trainer, "compiler_problem", lambda device_type: None)
    assert resolve_compile(settings("auto"), None, max_steps=5000) is True
    assert resolve_compile(settings(True), None, max_steps=1) is True


def test_a_continued_run_keeps_the_answer(tmp_path: Path, asked: list[str]) -> None:
    def answer(before: dict[str, Any], max_steps: int) -> bool:
        torch.save({"unirae": {"config": {"trainer": before}}}, tmp_path / "last.ckpt")
        return resolve_compile(settings("auto"), tmp_path / "last.ckpt", max_steps=max_steps)

    assert answer({"compile": False}, 10**6) is False
    assert asked == []
    assert answer({"compile": True}, 10) is False  # a machine without a compiler takes over
    assert asked == ["cpu"]
    assert answer({}, 10) is False  # a run of before there was this setting
    assert asked == ["cpu"]


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose auto, true or false"):
        resolve_compile(settings("yes"), None, max_steps=10)


def test_a_missing_compiler_is_a_reason_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    problem = hardware.compiler_problem("cpu")
    assert problem == "RuntimeError: InvalidCxxCompiler: No working C++ compiler found"
    assert hardware.compiler_problem("mps") == "not made for mps"
