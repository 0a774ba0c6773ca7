"""Blocks that torch.compile fuses within steps: the same training, and nothing of it outside of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from compilers import only_trace, without_compiler
from tiny_training import RAEV2, TINY, fit
from unirae.app.config.composition import compose
from unirae.app.run import trainer as app_trainer
from unirae.app.run.assembly import assemble
from unirae.app.run.trainer import resolve_compile
from unirae.core import hardware
from unirae.core.errors import ConfigError
from unirae.nn.kernels.block_compiler import repeated_blocks
from unirae.training.callbacks.compiled_blocks import CompiledBlocks

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
    "stage1, DINO, recomputed": (
        "stage1",
        (
            *DINO,
            "model.decoder.gradient_checkpointing=true",
            "model.discriminator.gradient_checkpointing=true",
        ),
        8,
    ),
    "stage2": ("stage2", ("trainer.accumulate_grad_batches=2",), 4),
    "stage2, RAEv2": ("stage2", ("trainer.accumulate_grad_batches=2", *RAEV2), 4),
    "stage2, recomputed": ("stage2", ("model.dit.gradient_checkpointing=true",), 4),
    "linear_probe": ("linear_probe", (), 2),
}


class Watch(pl.Callback):
    """Which blocks are the compiled ones within a step, and after it; what each step logs."""

    def __init__(self) -> None:
        self.within: list[int] = []
        self.after: list[int] = []
        self.terms: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.within.append(compiled(module))

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.after.append(compiled(module))
        self.terms.append(dict(module.last_terms))


def compiled(module: nn.Module) -> int:
    return sum(part._compiled_call_impl is not None for part in module.modules())


def train(folder: Path, stage: str, *overrides: str, callbacks: tuple[pl.Callback, ...] = ()) -> Any:
    patchgan = "model.discriminator."  # whose options DINO does not have
    own = [o for o in TINY[stage] if DINO[0] not in overrides or not o.startswith(patchgan)]
    config = compose([*own, f"paths.output_dir={folder}", *overrides])
    return fit(config, callbacks=callbacks)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    only_trace(monkeypatch)


def assert_same_training(folder: Path, name: str) -> None:
    """Of the first step all that is logged; later ones less, since Adam makes whole steps of vanishing gradients."""
    stage, overrides, blocks = STAGES[name]
    on, off = Watch(), Watch()
    train(folder / "on", stage, *overrides, "trainer.max_steps=4", callbacks=(CompiledBlocks(), on))
    assert (on.within, on.after) == ([blocks] * 4, [0] * 4)
    train(folder / "off", stage, *overrides, "trainer.max_steps=4", callbacks=(off,))
    for step, tolerance in ((0, 1e-4), (3, 1e-2)):
        assert on.terms[step] == pytest.approx(off.terms[step], rel=tolerance)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", STAGES)
def test_every_stage_trains_as_without(tmp_path: Path, name: str) -> None:
    assert_same_training(tmp_path, name)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", ["stage1, DINO", "stage2"])
def test_blocks_of_one_kind_share_their_graphs(tmp_path: Path, name: str) -> None:
    stage, overrides, _ = STAGES[name]
    deeper = "model.decoder.depth=12" if stage == "stage1" else "model.dit.depth=[12,12]"
    graphs = []
    for own in ((), (deeper,)):
        torch._dynamo.utils.counters.clear()
        train(tmp_path, stage, *overrides, *own, "trainer.max_steps=2", callbacks=(CompiledBlocks(),))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stage1, DINO", "stage2"])
def test_the_compiler_changes_nothing_but_time(tmp_path: Path, name: str) -> None:
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
    assert repeated_blocks(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.ReLU())) == []
    alike = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))  # as timm's
    assert repeated_blocks(nn.Sequential(nn.ReLU(), alike)) == [alike[0], alike[1]]


# --------------------------------------------------------------- the option


CPU: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))


def resolved(wanted: Any, max_steps: int) -> bool:
    return resolve_compile({"compile": wanted}, CPU, max_steps=max_steps)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    return without_compiler(monkeypatch, "unirae.app.run.trainer.compiler_problem")


def test_short_runs_do_not_wait_for_the_compiler(asked: list[torch.device]) -> None:
    assert resolved("auto", 4999) is False
    assert resolved(False, 10**6) is False
    assert asked == []


def test_without_a_compiler_long_runs_go_on_and_say_so(asked: list[torch.device], caplog: Any) -> None:
    assert resolved("auto", 5000) is False
    assert asked == [torch.device("cpu")]
    assert "no C++ compiler" in caplog.text


def test_where_the_compiler_works_long_runs_and_those_who_ask_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app_trainer, "compiler_problem", lambda device: None)
    assert resolved("auto", 5000) is True
    assert resolved(True, 1) is True


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (True, r"trainer\.compile=true.*no C\+\+ compiler"),
        ("yes", "'yes' is unknown; choose auto, true or false"),
        ("true", "'true' is unknown; choose auto, true or false"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_built(
    asked: list[torch.device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Any, message: str
) -> None:
    config = compose([*TINY["stage1"], f"paths.output_dir={tmp_path}/run"])
    config["trainer"]["compile"] = wanted
    monkeypatch.setattr("unirae.app.run.stages.stage1.Stage1Stage.build", None)
    with pytest.raises(ConfigError, match=message):
        assemble(config, experiment="tiny", checkpoint=None)
    assert not (tmp_path / "run").exists()


def test_a_missing_compiler_is_a_reason_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    problem = hardware.compiler_problem(torch.device("cpu"))
    assert problem == "RuntimeError: InvalidCxxCompiler: No working C++ compiler found"
    assert hardware.compiler_problem(torch.device("mps")) == "not made for mps"
