"""What keeps a GPU busy: denoisers that compile as one graph, and steps in which the host never waits."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tiny_training import fit, tiny_config
from unirae.models.denoisers.build import build_denoiser

SIZES: dict[str, Any] = {
    "dit_dh": {"hidden_size": [16, 48], "depth": [2, 1], "num_heads": [2, 2]},
    "dit": {"hidden_size": 32, "depth": 2, "num_heads": 2},
}


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", SIZES)
def test_a_denoiser_compiles_without_a_graph_break(kind: str, bf16: bool) -> None:
    torch.manual_seed(0)
    model = build_denoiser(kind=kind, input_size=4, in_channels=8, num_classes=3, **SIZES[kind])
    torch.nn.init.normal_(model.output.linear.weight)  # pyright: ignore
    x, t, y = torch.randn(2, 8, 4, 4), torch.rand(2), torch.tensor([0, 3])
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    gradients = []
    for network in (model, compiled):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = network(x, t, y).square().mean()
        gradients.append(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))
    for plain, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, plain, rtol=2e-2 if bf16 else 1e-4, atol=1e-2 if bf16 else 1e-5)


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for the device: reading a number, or a shape that depends on numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"):
            raise AssertionError(f"{name} makes the host wait")
        return func(*args, **(kwargs or {}))


class Watch(pl.Callback):
    def __init__(self, every: int) -> None:
        self.every, self.watched = every, 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        step = module.training_step

        def watched(batch: Any, batch_idx: int) -> None:
            if (trainer.global_step + 1) % self.every == 0:  # this step is logged
                return step(batch, batch_idx)
            self.watched += 1
            with NoWaiting():
                return step(batch, batch_idx)

        module.training_step = watched


@pytest.mark.parametrize("stage", ["stage1", "stage2", "mae"])
def test_the_host_waits_for_the_device_only_where_a_step_is_logged(tmp_path: Path, stage: str) -> None:
    overrides = ("trainer.max_steps=6", "trainer.log_every_n_steps=3")
    watch = Watch(3)
    fit(tiny_config(*overrides, output_dir=tmp_path, stage=stage), callbacks=[watch])
    assert watch.watched == 4


def test_waiting_would_be_noticed() -> None:
    with NoWaiting(), pytest.raises(AssertionError, match="makes the host wait"):
        float(torch.ones(()) + 1)
