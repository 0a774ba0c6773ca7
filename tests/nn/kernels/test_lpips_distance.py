import pytest
import torch

from unirae.nn.kernels import lpips_distance
from unirae.nn.kernels.lpips_distance import unit_distance


def plain(x, y, head):
    x, y = (m / (m.square().sum(dim=1, keepdim=True).clamp_min(1e-20).sqrt() + 1e-10) for m in (x, y))
    return ((x - y).square() * head).sum(dim=1).mean(dim=(1, 2))


@pytest.mark.parametrize("slab", [7, 2**18])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_the_plain_formula_and_its_gradient(slab, layout, monkeypatch):
    monkeypatch.setattr(lpips_distance, "_SLAB", slab)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 5, 4, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    head = torch.rand(1, 5, 1, 1, dtype=torch.float64, generator=generator)
    upstream = torch.tensor([0.3, -2.0], dtype=torch.float64)
    found = x.to(memory_format=layout).requires_grad_()
    wanted = x.clone().requires_grad_()
    results = []
    for leaf, function in ((found, unit_distance), (wanted, plain)):
        out = function(leaf, y, head)
        results.append((out, *torch.autograd.grad(out, leaf, upstream)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.equal(unit_distance(x, y, head), unit_distance(found, y, head).detach())


def test_features_that_vanish_have_a_finite_gradient():
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    unit_distance(x, torch.ones(1, 4, 2, 2), torch.ones(1, 4, 1, 1)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_compares_16_bit_features_in_32():
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 64, 8, 8).bfloat16()
    head = torch.rand(1, 64, 1, 1)
    found = unit_distance(x, y, head)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(x.float(), y.float(), head), rtol=1e-5, atol=1e-6)


def test_a_target_that_wants_a_gradient_is_refused():
    x = torch.ones(1, 4, 2, 2)
    with pytest.raises(ValueError, match="detach the target"):
        unit_distance(x, x.clone().requires_grad_(), torch.ones(1, 4, 1, 1))
