"""Attention in 16 bits on a CPU against float64: the scores must not be rounded before the softmax."""

import pytest
import torch
import torch.nn.functional as F

from unirae.nn.attention import attend
from unirae.nn.kernels import chunked_attention

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def exact(q, k, v):
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v


def operands(scale, *, tokens=64, dtype=torch.bfloat16):
    generator = torch.Generator().manual_seed(0)
    q, k, v, given = torch.randn(4, 2, 3, tokens, 64, generator=generator).to(dtype)
    return scale * q, scale * k, v, given


def relative(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


@HALVES
@pytest.mark.parametrize("tokens", [16, 64, 256])
@pytest.mark.parametrize("scale", [1, 3, 6])
def test_16_bits_stay_near_float64_at_any_scale(scale, tokens, dtype):
    *inputs, given = operands(scale, tokens=tokens, dtype=dtype)
    halves = [x.clone().requires_grad_() for x in inputs]
    doubles = [x.double().requires_grad_() for x in inputs]
    found, wanted = attend(*halves), exact(*doubles)
    found.backward(given)
    wanted.backward(given.double())
    assert found.dtype == dtype
    # rounding the scores gives .004, .010, .020 in bf16, and .004, .025, .110 in the gradients of q and k
    step = torch.finfo(dtype).eps
    assert relative(found.detach(), wanted.detach()) < 0.4 * step
    for half, double in zip(halves, doubles, strict=True):
        assert half.grad.dtype == dtype
        assert relative(half.grad, double.grad) < 0.45 * step


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 3, 6])
def test_without_gradients_it_is_as_near(scale):
    *inputs, _ = operands(scale)
    wanted = exact(*(x.double() for x in inputs))
    assert relative(attend(*inputs), wanted) < 0.4 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("scores_at_once", [1, 2 * 7**2, 2**20])
def test_chunks_of_heads_change_nothing(monkeypatch, scores_at_once):
    monkeypatch.setattr(chunked_attention, "_CHUNK", scores_at_once)
    generator = torch.Generator().manual_seed(0)
    packed = torch.randn(2, 7, 3, 5, 4, generator=generator, dtype=torch.float64)
    given = torch.randn(2, 5, 7, 4, generator=generator, dtype=torch.float64)
    found, wanted = (packed.clone().requires_grad_() for _ in range(2))
    for leaf, function in ((found, chunked_attention.chunked_attention), (wanted, exact)):
        function(*leaf.permute(2, 0, 3, 1, 4)).backward(given)
    torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-12, atol=1e-14)


def test_autocast_does_not_round_the_scores():
    *inputs, _ = operands(6)
    inputs[0].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attend(*inputs)
    assert torch.equal(found, attend(*inputs))


@pytest.mark.parametrize(
    ("tokens", "dtype", "products", "is_fused"),
    [
        (8, torch.bfloat16, "highest", False),
        (8, torch.float32, "medium", False),
        (8, torch.float32, "highest", True),
        (8, torch.float64, "medium", True),
        (513, torch.float32, "medium", True),
        (1024, torch.bfloat16, "medium", False),
        (1025, torch.bfloat16, "medium", True),
    ],
)
@pytest.mark.parametrize("gradient", [True, False])
def test_it_is_chunked_on_a_cpu_where_onednn_multiplies_few_tokens(
    monkeypatch, tokens, dtype, products, is_fused, gradient
):
    torch.set_float32_matmul_precision(products)
    calls = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *x, **options: (calls.append(1), fused(*x, **options))[1]
    )
    q, k, v = torch.randn(3, 1, 1, tokens, 8, dtype=dtype)
    attend(q, k.requires_grad_(gradient), v)
    assert bool(calls) is is_fused
