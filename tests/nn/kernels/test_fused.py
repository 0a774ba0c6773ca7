"""Norm and modulation in one, against the operations one by one, and its gradients against finite differences."""

import pytest
import torch

from unirae.nn.kernels.fused import modulated_rms_norm
from unirae.nn.norms import LayerNorm, RMSNorm

PER_IMAGE_OR_TOKEN = pytest.mark.parametrize("m", [1, 5])


def operands(m: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 5, 8), (8,), (2, m, 8), (2, m, 8))
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@PER_IMAGE_OR_TOKEN
def test_gradients(m):
    inputs = operands(m, torch.float64)
    assert torch.autograd.gradcheck(lambda *given: modulated_rms_norm(*given, eps=1e-3), inputs)


@PER_IMAGE_OR_TOKEN
@pytest.mark.parametrize("norm", [RMSNorm(8, eps=1e-3), LayerNorm(8, elementwise_affine=False)])
def test_is_norm_then_modulation(norm, m):
    x, _, shift, scale = operands(m, torch.float32)
    wanted = norm(x) * (1 + scale) + shift
    torch.testing.assert_close(norm.modulated(x, shift, scale), wanted, rtol=1e-5, atol=1e-6)


@PER_IMAGE_OR_TOKEN
def test_under_autocast_only_the_result_is_rounded(m):
    """Not the norm nor the modulation: the error is that of one rounding, and gradients keep their inputs' types."""
    x, weight, shift, scale = operands(m, torch.float32)
    shift, scale = (t.detach().bfloat16().requires_grad_() for t in (shift, scale))
    exact = modulated_rms_norm(*(t.detach().double() for t in (x, weight, shift, scale)), eps=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = modulated_rms_norm(x, weight, shift, scale, eps=1e-3)
    assert found.dtype == torch.bfloat16
    assert ((found.double() - exact).abs() <= 2.0**-8 * exact.abs() + 1e-6).all()
    found.sum().backward()
    assert [t.grad.dtype for t in (x, weight, shift, scale)] == [torch.float32] * 2 + [torch.bfloat16] * 2


def test_float64_stays_float64():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert modulated_rms_norm(*operands(1, torch.float64), eps=1e-3).dtype == torch.float64


def test_it_compiles_without_a_break():
    """Traced by the compiler's front end; no C++ compiler is asked for."""
    compiled = torch.compile(modulated_rms_norm, backend="aot_eager", fullgraph=True)
    plain, traced = operands(1, torch.float32), operands(1, torch.float32)
    modulated_rms_norm(*plain, eps=1e-3).square().sum().backward()
    compiled(*traced, eps=1e-3).square().sum().backward()
    for a, b in zip(plain, traced, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
