"""DiT^DH and plain DiT against the reference implementation: outputs, guidance and gradients."""

import pytest
import torch

from golden_dit import golden_model, read
from tiny_models import relative_l2
from unirae.models.interop.official.dit import dit_to_official


@pytest.mark.parametrize("name", ["ddt", "ddt_equal_width", "lightning_dit"])
def test_velocity_equals_the_references(name):
    golden, state, config = read(f"{name}.safetensors")
    velocity = golden_model(state, config)(golden["x"], golden["t"], golden["y"])
    assert relative_l2(velocity.detach(), golden["velocity"]) < 1e-4


@pytest.mark.parametrize("name", ["ddt", "ddt_equal_width"])
def test_gradient_norm_equals_the_references(name):
    golden, state, config = read(f"{name}.safetensors")
    model = golden_model(state, config)
    model(golden["x"], golden["t"], golden["y"]).square().mean().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    assert float(norm) == pytest.approx(float(golden["grad_norm_of_mean_square"]), rel=1e-3)


@pytest.mark.parametrize("name", ["ddt", "ddt_equal_width", "lightning_dit"])
def test_names_and_tables_there_and_back_change_no_bit(name):
    _, state, config = read(f"{name}.safetensors")
    back = dit_to_official(golden_model(state, config))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
