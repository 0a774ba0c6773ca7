from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unirae.flow.path import interpolate, velocity_loss

GOLDEN = Path(__file__).parents[1] / "golden" / "sampling_ddt.safetensors"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN)


def test_path_matches_the_reference(golden):
    found = interpolate(golden["path_data"], golden["path_noise"], golden["path_t"])
    torch.testing.assert_close(found.xt, golden["path_xt"])
    torch.testing.assert_close(found.velocity, golden["path_velocity"])


def test_loss_is_the_mean_square_of_each_sample(golden):
    predicted, target = golden["path_xt"], golden["path_velocity"]
    loss = velocity_loss(predicted, target)
    assert loss.shape == (4,)
    for sample in range(4):
        torch.testing.assert_close(loss[sample], ((predicted[sample] - target[sample]) ** 2).mean())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_the_loss_in_any_layout(layout):
    generator = torch.Generator().manual_seed(0)
    operands = torch.randn(2, 3, 5, 4, 2, generator=generator, dtype=torch.float64)
    predicted, target = (x.contiguous(memory_format=layout).requires_grad_() for x in operands)
    assert torch.autograd.gradcheck(velocity_loss, (predicted, target))
    found = torch.autograd.grad(velocity_loss(predicted, target).sum(), predicted)[0]
    assert found.is_contiguous(
        memory_format=layout
    )  # that of what it is the gradient of: nothing is transposed


def test_path_and_loss_are_computed_in_full_precision():
    data, noise = torch.randn(2, 3, 8, dtype=torch.bfloat16)
    t = torch.rand(3, dtype=torch.bfloat16)
    point = interpolate(data, noise, t)
    exact = interpolate(data.double(), noise.double(), t.double())
    assert point.xt.dtype == point.velocity.dtype == torch.float32
    torch.testing.assert_close(point.xt, exact.xt.float())
    loss = velocity_loss(data, noise)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, velocity_loss(data.double(), noise.double()).float())
