"""Compiled denoisers, the memory that is foretold, and TF32, on a GPU."""

import gc
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from gpu.training_runs import GAN, terms, train
from tiny_training import rehearsed
from training.test_host_and_graph import SIZES
from unirae.core.exact import exact_float32
from unirae.core.hardware import compiler_problem, fastest_float32_matmul, fastest_precision, float32_matmul
from unirae.models.denoisers.build import build_denoiser

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", SIZES)
def test_a_denoiser_compiles_without_a_graph_break(kind: str, bf16: bool, device: torch.device) -> None:
    torch.manual_seed(0)
    model = build_denoiser(kind=kind, input_size=4, in_channels=8, num_classes=3, **SIZES[kind])
    torch.nn.init.normal_(model.output.linear.weight)  # pyright: ignore
    model.to(device)
    x, t, y = torch.randn(2, 8, 4, 4), torch.rand(2), torch.tensor([0, 3])
    x, t, y = (tensor.to(device) for tensor in (x, t, y))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    gradients = []
    for network in (model, compiled):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = network(x, t, y).square().mean()
        gradients.append(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))
    for plain, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, plain, rtol=2e-2 if bf16 else 1e-4, atol=1e-2 if bf16 else 1e-5)


@pytest.mark.parametrize("case", ["stage 1, DINO and LPIPS", "stage 2"])
def test_the_runs_option_compiles_and_changes_no_loss(tmp_path: Path, cuda: torch.device, case: str) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    precision = "trainer.precision=32-true"
    train(tmp_path / "eager", case, cuda, precision)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0
    train(tmp_path / "compiled", case, cuda, precision, "trainer.compile=true")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    assert not torch._dynamo.utils.counters["graph_break"]
    found, wanted = (terms(tmp_path / name)["train/loss"] for name in ("compiled", "eager"))
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=0)
    # Adam makes whole steps of vanishing gradients
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=0)


def test_the_compiler_works_here(cuda: torch.device) -> None:
    assert compiler_problem(cuda) is None


class Measure(pl.Callback):
    """The estimate at the start, and what torch hands out during a later step."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.estimate = rehearsed(trainer, module)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        torch.cuda.reset_peak_memory_stats()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.measured = torch.cuda.max_memory_allocated()


LARGER = {
    "stage 2": (
        "model.dit.hidden_size=[512,1024]",
        "model.dit.depth=[12,2]",
        "model.dit.num_heads=[8,16]",
        "data.global_batch_size=32",
    ),
    "stage 1": (
        *GAN,
        "model.decoder.width=512",
        "model.decoder.depth=12",
        "model.decoder.num_heads=8",
        "model.decoder.mlp_width=2048",
        "data.global_batch_size=32",
    ),
}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("case", LARGER)
def test_the_estimate_is_near_what_a_step_takes(
    tmp_path: Path, cuda: torch.device, case: str, precision: str
) -> None:
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    measure = Measure()
    train(tmp_path, case, cuda, *LARGER[case], f"trainer.precision={precision}", callbacks=[measure])
    taken = measure.measured - before
    print(f"{case}, {precision}: estimated {measure.estimate.peak / 1e6:.0f} MB, taken {taken / 1e6:.0f} MB")
    assert measure.estimate.peak == pytest.approx(taken, rel=0.15)


def product_error(device: torch.device) -> float:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 512, 512, dtype=torch.float64, generator=generator)
    found = (a.float().to(device) @ b.float().to(device)).double().cpu()
    return float((found - a @ b).norm() / (a @ b).norm())


def convolution_error(device: torch.device) -> float:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 64, 32, 32, dtype=torch.float64, generator=generator)
    w = torch.randn(64, 64, 3, 3, dtype=torch.float64, generator=generator)
    wanted = torch.nn.functional.conv2d(x, w)
    found = torch.nn.functional.conv2d(x.float().to(device), w.float().to(device)).double().cpu()
    return float((found - wanted).norm() / wanted.norm())


def test_tf32_is_for_the_user_to_ask_for(tmp_path: Path, cuda: torch.device) -> None:
    assert fastest_precision("cuda") == "bf16-mixed"
    assert fastest_float32_matmul("cuda") == "highest"
    assert product_error(cuda) < 2e-6
    with float32_matmul():
        train(tmp_path / "auto", "stage 2", cuda, "trainer.max_steps=1")
        assert not torch.backends.cuda.matmul.allow_tf32
        assert product_error(cuda) < 2e-6
        train(tmp_path / "high", "stage 2", cuda, "trainer.max_steps=1", "trainer.float32_matmul=high")
        assert torch.backends.cuda.matmul.allow_tf32
        assert product_error(cuda) > 1e-5  # TF32 it is
        torch.backends.cudnn.allow_tf32 = True
        with exact_float32(cuda):
            assert product_error(cuda) < 2e-6
            assert convolution_error(cuda) < 2e-6
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
