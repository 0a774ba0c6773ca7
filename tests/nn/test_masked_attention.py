"""Attention with a mask against attention over the kept keys alone, values and gradients, both paths."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirae.nn import attention
from unirae.nn.attention import SelfAttention, attend
from unirae.nn.kernels import chunked_attention
from unirae.nn.positions import RotaryPositions

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.04}
PATHS = pytest.mark.parametrize("chunked", [False, True], ids=["sdpa", "chunked"])
TYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)


def path(chunked):
    return chunked_attention.chunked_attention if chunked else fused


def fused(q, k, v, mask=None):
    attended = None if mask is None else mask[:, None, None]
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attended)


def exact_of_kept(q, k, v, kept):
    """One sample, in float64, of the kept keys alone."""
    q, k, v = (x.double() for x in (q, k[:, kept], v[:, kept]))
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def operands(tokens, dtype, *, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 2, tokens, 8, generator=generator).to(dtype) for _ in range(4)]


def assert_masked(attend_by, mask, dtype):
    *inputs, given_gradient = operands(mask.shape[1], dtype, batch=len(mask))
    found = [x.clone().requires_grad_() for x in inputs]
    wanted = [x.double().requires_grad_() for x in inputs]
    out = attend_by(*found, mask)
    out.backward(given_gradient)
    exact = torch.stack([exact_of_kept(*(x[i] for x in wanted), mask[i]) for i in range(len(mask))])
    exact.backward(given_gradient.double())
    assert out.dtype == dtype
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=tolerance)
    for name, mine, theirs in zip("qkv", found, wanted, strict=True):
        torch.testing.assert_close(
            mine.grad.double(), theirs.grad, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
        if name != "q":
            assert torch.equal(
                mine.grad.transpose(1, 2)[~mask], torch.zeros_like(mine.grad.transpose(1, 2)[~mask])
            )


@PATHS
@TYPES
def test_only_kept_keys_are_attended_to(chunked, dtype):
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(3, 11, generator=generator) < 0.5
    mask[:, 4] = True
    mask[2] = torch.arange(11) == 4  # one key alone
    assert_masked(path(chunked), mask, dtype)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), tokens=st.integers(1, 9), batch=st.integers(1, 3), chunked=st.booleans())
def test_so_it_is_for_any_mask(seed, tokens, batch, chunked):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, tokens, generator=generator) < 0.5
    mask[torch.arange(batch), torch.randint(tokens, (batch,), generator=generator)] = True
    assert_masked(path(chunked), mask, torch.float64)


@PATHS
@TYPES
def test_a_mask_of_all_is_none(chunked, dtype):
    q, k, v, _ = operands(7, dtype)
    everything = torch.ones(3, 7, dtype=torch.bool)
    torch.testing.assert_close(
        path(chunked)(q, k, v, everything), path(chunked)(q, k, v), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("scores_at_once", [1, 2 * 11**2, 2**20])
def test_masks_follow_the_chunks_of_heads(monkeypatch, scores_at_once):
    monkeypatch.setattr(chunked_attention, "_CHUNK", scores_at_once)
    mask = torch.arange(11) < torch.tensor([[11], [3], [1]])
    assert_masked(chunked_attention.chunked_attention, mask, torch.float64)


@pytest.mark.parametrize(("dtype", "products"), [(torch.bfloat16, "highest"), (torch.float32, "medium")])
def test_both_paths_are_chosen_with_a_mask_as_without(monkeypatch, dtype, products):
    torch.set_float32_matmul_precision(products)
    mask = torch.arange(9) < torch.tensor([[9], [4], [2]])
    assert_masked(attend, mask, dtype)
    seen = []
    original = attention.chunked_attention
    monkeypatch.setattr(attention, "chunked_attention", lambda *x: (seen.append(x[3]), original(*x))[1])
    q, k, v, _ = operands(9, dtype)
    attend(q, k, v, mask)
    assert seen == [mask]


@TYPES
def test_what_is_masked_may_be_anything_finite(dtype):
    layer = SelfAttention(width=16, num_heads=2).to(dtype)
    x = torch.randn(2, 6, 16, dtype=dtype)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    wanted = layer(x, None, mask)
    x[1, 4:] = 30.0
    found = layer(x, None, mask)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1, :4], wanted[1, :4])
    alone = layer(x[1:, :4])
    torch.testing.assert_close(found[1:, :4], alone, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("compiling", [False, True], ids=["complex", "pairs"])
def test_more_tokens_than_the_rotary_table_are_not_turned(monkeypatch, compiling):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    rotary = RotaryPositions(head_width=8, grid=(2, 3), num_unturned=2)
    x = torch.randn(2, 2, 13, 8)
    wanted = RotaryPositions(head_width=8, grid=(2, 3), num_unturned=7)(x)
    found = rotary(x)
    assert torch.equal(found, wanted)
    torch.testing.assert_close(found[:, :, 6:], x[:, :, 6:], rtol=0, atol=0)
    assert torch.equal(found[:, :, :8], rotary(x[:, :, :8]))
