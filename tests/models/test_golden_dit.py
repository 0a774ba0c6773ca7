"""DiT^DH and plain DiT against the reference implementation: outputs, guidance and gradients."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from models.tiny_models import relative_l2
from unirae.models.dit import DiT
from unirae.models.dit_dh import DiTDH
from unirae.models.interop.official_dit import dit_from_official, dit_to_official
from unirae.models.strict import load_strictly

GOLDEN = Path(__file__).parents[1] / "golden"


def read(name, prefix="state."):
    with safe_open(GOLDEN / name, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    state = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    return tensors, state, config


def golden_model(state, config):
    arguments = {k: v for k, v in config.items() if k not in ("wo_shift", "class_dropout_prob")}
    head = isinstance(config["hidden_size"], list)
    model = (DiTDH if head else DiT)(**arguments)
    ours = dit_from_official(state, trunk_depth=config["depth"][0] if head else None)
    load_strictly(model, ours, what="DiT")
    return model


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
