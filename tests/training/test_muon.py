"""Muon: the reference's steps, orthogonality, chunks, and one process equal to two."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from processes import run_in_processes
from unirae.core.errors import ConfigError
from unirae.nn.parameter_groups import group_parameters
from unirae.training.muon import POLAR_EXPRESS, Matrix, Muon, _shares, orthogonalised, symmetric_product
from unirae.training.optimizers import optimizer_settings

GOLDEN = Path(__file__).parents[1] / "golden/raev2_muon.safetensors"


@pytest.fixture(scope="module")
def golden():
    with safe_open(GOLDEN, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["config"])


def relative(found, expected):
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def optimizer_of(parameters, config, **options):
    matrices = [Matrix(p) for p in parameters.values() if p.ndim == 2]
    others = [p for p in parameters.values() if p.ndim != 2]
    numbers = config["optimizer"]
    return Muon(
        matrices,
        others,
        lr=numbers["lr"],
        momentum=numbers["momentum"],
        betas=tuple(numbers["betas"]),
        weight_decay=numbers["weight_decay"],
        **options,
    )


@pytest.mark.parametrize("variant", ["published", "big"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-2), (torch.float32, 3e-2)])
def test_each_step_is_the_references(golden, variant, dtype, tolerance):
    """From the reference's parameters and the momentum of the same gradients, whose rates are its own."""
    tensors, config = golden
    names, settings = config["order"], config["variants"][variant]
    parameters = {name: nn.Parameter(tensors[f"param.{name}"].clone()) for name in names}
    optimizer = optimizer_of(parameters, settings, dtype=dtype)
    for step, rates in enumerate(settings["lr_used"], start=1):
        before = {name: p.detach().clone() for name, p in parameters.items()}
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        for name, parameter in parameters.items():
            parameter.grad = tensors[f"grad.{step}.{name}"].clone()
        optimizer.step()
        for name, parameter in parameters.items():
            expected = tensors[f"{variant}.step{step}.{name}"]
            change, wanted = parameter.detach() - before[name], expected - before[name]
            assert relative(change, wanted) < (tolerance if parameter.ndim == 2 else 1e-4), (step, name)
            parameter.data.copy_(expected)
    for name, parameter in parameters.items():
        if parameter.ndim == 2:
            momentum = optimizer.state[parameter]["momentum"]
            assert relative(momentum, tensors[f"{variant}.momentum.{name}"]) < 1e-6


@pytest.mark.parametrize("number", range(5))
def test_newton_schulz_is_the_references(golden, number):
    tensors, config = golden
    assert [list(triple) for triple in POLAR_EXPRESS] == config["coefficients"]["POLAR_EXPRESS_COEFFICIENTS"]
    key = f"ns.POLAR_EXPRESS_COEFFICIENTS.{number}"
    given = tensors[f"{key}.input"][None]
    assert relative(orthogonalised(given, dtype=torch.float32)[0], tensors[f"{key}.exact"]) < 1e-3
    assert relative(orthogonalised(given, dtype=torch.float16)[0], tensors[f"{key}.output"]) < 1e-2


def test_singular_values_end_near_one():
    matrices = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrices, dtype=torch.float32))
    assert values.min() > 0.8
    assert values.max() < 1.15


@pytest.mark.parametrize("rows", [1, 256, 600, 1030])
def test_a_symmetric_product_is_the_product(rows):
    """Also where its panels are of unequal heights, and where there is only one."""
    x = torch.randn(2, rows, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gram = symmetric_product(x, x.mT)
    assert torch.allclose(gram, x @ x.mT)
    found = symmetric_product(gram, gram, gram, beta=-0.5, alpha=2.0)
    assert torch.allclose(found, 2 * gram @ gram - 0.5 * gram)


@pytest.mark.parametrize("shape", [(600, 640), (640, 600), (600, 600)])
def test_large_matrices_become_orthogonal(shape):
    given = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(given, dtype=torch.float32)
    u, values, v = torch.linalg.svd(given[0], full_matrices=False)
    lowest = values > 0.05 * values.max()
    assert relative((u[:, lowest].mT @ found[0] @ v[lowest].mT).diagonal(), torch.ones(lowest.sum())) < 0.15


def test_a_gradient_of_zeros_changes_nothing():
    parameter = nn.Parameter(torch.ones(4, 6))
    parameter.grad = torch.zeros(4, 6)
    Muon([Matrix(parameter)], [], lr=0.1).step()
    assert torch.equal(parameter, torch.ones(4, 6))


def test_parts_are_matrices_of_their_own():
    """A fused projection of three parts moves as three parameters do, each with the scale of its own size."""
    draws = torch.Generator().manual_seed(0)
    whole = nn.Parameter(torch.randn(24, 5, generator=draws))
    thirds = [nn.Parameter(part.clone()) for part in whole.detach().chunk(3)]
    gradient = torch.randn(24, 5, generator=draws)
    whole.grad = gradient
    for third, part in zip(thirds, gradient.chunk(3), strict=True):
        third.grad = part
    Muon([Matrix(whole, parts=3)], [], lr=0.1).step()
    Muon([Matrix(third) for third in thirds], [], lr=0.1).step()
    assert torch.allclose(whole, torch.cat([*thirds]), atol=1e-7)
    other = nn.Parameter(whole.detach().clone())
    other.grad = gradient
    Muon([Matrix(other)], [], lr=0.1).step()
    assert not torch.allclose(other, whole, atol=1e-3)


def small_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 6))


def steps(network, optimizer, start, stop):
    for step in range(start, stop):
        optimizer.zero_grad()
        rows = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        (network(rows) - rows).square().mean().backward()
        optimizer.step()


def optimizer_for(network):
    matrices = [Matrix(p) for p in network.parameters() if p.ndim == 2]
    return Muon(matrices, [p for p in network.parameters() if p.ndim != 2], lr=0.02, weight_decay=0.1)


def test_a_state_that_was_saved_and_loaded_goes_on_exactly():
    straight = small_network()
    steps(straight, optimizer_for(straight), 0, 6)
    network = small_network()
    optimizer = optimizer_for(network)
    steps(network, optimizer, 0, 3)
    state = copy.deepcopy(optimizer.state_dict())
    for kept in state["state"].values():
        if "step" in kept:
            kept["step"] = kept[
                "step"
            ].double()  # as a count on another device: the fused kernel needs it beside
    again = optimizer_for(network)
    again.load_state_dict(state)
    assert again.param_groups[0]["momentum"] == 0.95
    assert all(kept["step"].dtype == torch.float32 for kept in again.state.values() if "step" in kept)
    steps(network, again, 3, 6)
    for parameter, expected in zip(network.parameters(), straight.parameters(), strict=True):
        assert torch.equal(parameter, expected)


def trained_parameters():
    network = small_network()
    steps(network, optimizer_for(network), 0, 3)
    return [parameter.detach() for parameter in network.parameters()]


def test_two_processes_give_what_one_gives():
    alone = trained_parameters()
    for found in run_in_processes(trained_parameters):
        for parameter, expected in zip(found, alone, strict=True):
            assert torch.equal(parameter, expected)


def test_it_learns():
    network = small_network()
    rows = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    before = float((network(rows) - rows).square().mean().detach())
    steps(network, optimizer_for(network), 0, 60)
    assert float((network(rows) - rows).square().mean().detach()) < 0.3 * before


def test_settings_build_it_for_the_groups_of_a_network():
    settings = optimizer_settings(kind="muon", lr=0.1, betas=(0.9, 0.95), weight_decay=0.0, chunks="none")
    optimizer = settings.build(group_parameters(small_network(), edges=("2",)))
    of_matrices, of_others = optimizer.param_groups
    assert [tuple(p.shape) for p in of_matrices["params"]] == [(9, 6)]
    assert [tuple(p.shape) for p in of_others["params"]] == [(9,), (6, 9), (6,)]
    with pytest.raises(
        ConfigError, match=r"^chunks='some' is unknown; choose one of all, projections, none$"
    ):
        optimizer_settings(kind="muon", lr=0.1, betas=(0.9, 0.95), weight_decay=0.0, chunks="some").build(
            group_parameters(small_network(), edges=("2",))
        )


def test_the_work_is_shared_evenly_and_each_matrix_given_once():
    shapes = [torch.Size(shape) for shape in ((8, 8), (16, 16), (4, 64), (16, 16), (2, 2))]
    shares = _shares(shapes, 2)
    assert sorted(number for share in shares for number in share) == [0, 1, 2, 3, 4]
    assert sum(1 in share for share in shares) == sum(3 in share for share in shares) == 1
    assert all((1 in share) != (3 in share) for share in shares)  # the two costliest are apart
    assert _shares(shapes[:1], 3) == [[0], [], []]
