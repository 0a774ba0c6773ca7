"""Samples of the reference implementation: same noise, same weights, same latents."""

import pytest
import torch

from golden_dit import golden_model, read
from tiny_models import relative_l2
from unirae.evaluation.sampling.settings import SamplerSettings, guided_velocity
from unirae.flow.solvers import counting, solve
from unirae.flow.times import time_grid

BELOW_ONE = (0.0, 0.9999)
"""The reference's first time is 1 + 2⁻²³ here (float32), outside its own interval [0, 1]: it does not guide the first
step, which changes the samples by 0.2 %. Our first time is 1 exactly, and inside. At the shifts
of 768×16×16 and 768×32×32 theirs is 1, too."""


@pytest.fixture(scope="module")
def ddt():
    """(the reference's single evaluations, its model)."""
    golden, state, config = read("ddt.safetensors")
    return golden, golden_model(state, config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def sampling():
    """(the reference's samples, its guide, its time shift)."""
    golden, state, about = read("sampling_ddt.safetensors", prefix="weak.")
    return (
        golden,
        golden_model(state, about["model_config"]).eval().requires_grad_(False),
        about["time_shift"],
    )


def run(ddt, sampling, *, guided=False, **settings):
    golden, guide, shift = sampling
    model = ddt[1]
    settings = SamplerSettings(time_shift=shift, **settings)
    velocity = counting(guided_velocity(model, golden["y"], settings, guide if guided else None))
    return solve(settings.solver, velocity, golden["x_noise"], settings.times(model)), velocity.evaluations


def test_the_time_grid_equals_the_references(sampling):
    golden, _, shift = sampling
    assert time_grid(50, shift) == pytest.approx(golden["time_grid_50"].tolist(), abs=2e-7)


@pytest.mark.parametrize(
    ("name", "settings", "evaluations"),
    [
        ("euler_10", {"num_steps": 10}, 9),
        ("euler_50", {"num_steps": 50}, 49),
        (
            "euler_50_cfg_1.8_interval_0.1_0.9",
            {"num_steps": 50, "cfg_scale": 1.8, "guidance_interval": (0.1, 0.9)},
            49,
        ),
        (
            "euler_50_autoguidance_1.42",
            {"num_steps": 50, "cfg_scale": 1.42, "guided": True, "guidance_interval": BELOW_ONE},
            49,
        ),
        ("dopri5", {"num_steps": 50, "solver": "dopri5"}, None),
    ],
)
def test_samples_equal_the_references(ddt, sampling, name, settings, evaluations):
    latents, counted = run(ddt, sampling, **settings)
    assert relative_l2(latents, sampling[0][name]) < 1e-3
    assert counted == evaluations or evaluations is None


@pytest.mark.parametrize(
    ("name", "interval"), [("cfg_2.5", (0.0, 1.0)), ("cfg_2.5_interval_0.3_0.8", (0.3, 0.8))]
)
def test_guided_velocities_equal_the_references(ddt, name, interval):
    """Each sample has a time of its own there, so one at a time."""
    golden, model = ddt
    settings = SamplerSettings(cfg_scale=2.5, guidance_interval=interval)
    velocities = [
        guided_velocity(model, golden["y"][i : i + 1], settings, None)(golden["x"][i : i + 1], float(t))
        for i, t in enumerate(golden["t"])
    ]
    assert relative_l2(torch.cat(velocities), golden[name]) < 1e-4
