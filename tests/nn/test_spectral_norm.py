import pytest
import torch
from torch import nn

from unirae.nn.spectral_norm import SpectralNormConv1d, SpectralNormConv2d, advance_spectral_norm


@pytest.fixture(params=["1d", "2d"])
def conv(request):
    torch.manual_seed(0)
    if request.param == "1d":
        return SpectralNormConv1d(6, 8, 5, padding=2, padding_mode="circular").double()
    return SpectralNormConv2d(6, 8, 4, stride=2, padding=1).double()


def test_largest_singular_value_becomes_one(conv):
    for _ in range(300):
        advance_spectral_norm(nn.Sequential(conv))
    largest = torch.linalg.matrix_norm(conv.normalised_weight().flatten(1), ord=2)
    torch.testing.assert_close(largest, torch.ones_like(largest), rtol=1e-6, atol=0)


def test_first_forward_is_already_near(conv):
    assert 0.9 < torch.linalg.matrix_norm(conv.normalised_weight().flatten(1), ord=2) < 1.2


def test_equals_torchs_spectral_norm_with_one_iteration_per_forward():
    torch.manual_seed(0)
    ours = SpectralNormConv1d(6, 8, 5, padding=2, padding_mode="circular")
    theirs = nn.utils.spectral_norm(nn.Conv1d(6, 8, 5, padding=2, padding_mode="circular"))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 9)
    for _ in range(3):
        ours.power_iteration()
        torch.testing.assert_close(ours(x), theirs.train()(x))
    theirs.eval()(x).square().sum().backward()
    ours(x).square().sum().backward()
    torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad)


def test_sigma_is_differentiable(conv):
    x = torch.randn(1, 6, *(5,) * (conv.weight_orig.ndim - 2), dtype=torch.float64)

    def forward(weight):
        return torch.func.functional_call(conv, {"weight_orig": weight}, (x,))

    assert torch.autograd.gradcheck(forward, conv.weight_orig.detach().requires_grad_())


def test_sigma_stays_exact_under_autocast(conv):
    conv.float()
    wanted = conv.normalised_weight()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(conv.normalised_weight(), wanted)
