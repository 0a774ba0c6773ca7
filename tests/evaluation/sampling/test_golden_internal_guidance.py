"""RAEv2's guidance and samples: same noise, same weights, same latents."""

import json

import pytest
import torch
from safetensors import safe_open

from golden_dit import GOLDEN, golden_model_v2, read
from tiny_models import relative_l2
from unirae.core.errors import ConfigError
from unirae.evaluation.sampling.requests import Request
from unirae.evaluation.sampling.settings import SamplerSettings, guided_velocity
from unirae.flow.prediction import data_from_velocity
from unirae.flow.solvers import counting
from unirae.flow.times import time_grid
from unirae.models.denoisers.condition import Condition


def golden(name):
    with safe_open(GOLDEN / f"raev2_{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["config"])  # noqa: SIM118


@pytest.fixture(scope="module")
def model():
    _, state, config = read("raev2_ddt_ig.safetensors")
    return golden_model_v2(state, config).eval().requires_grad_(False)


def settings_of(variant, **settings):
    """Our settings of one of the golden files' variants."""
    cfg, ig = variant.get("cfg", {}), variant.get("ig", {})
    return SamplerSettings(
        cfg_scale=cfg.get("scale", 1.0),
        guidance_interval=(cfg.get("t_min", 0.0), cfg.get("t_max", 1.0)),
        ig_scale=ig.get("scale", 1.0),
        ig_interval=(ig.get("t_min", 0.0), ig.get("t_max", 1.0)),
        ig_unconditional_scale=ig.get("unconditional_scale"),
        **settings,
    )


class Asked:
    """A network that notes the batch of each pass."""

    def __init__(self, model, monkeypatch):
        self.batches = []
        for name in ("predict", "predict_with_base"):
            monkeypatch.setattr(model, name, self.noting(getattr(model, name)))

    def noting(self, call):
        return lambda x, t, y: (self.batches.append(len(x)), call(x, t, y))[1]


@torch.no_grad()
def test_both_heads_are_raev2s(model):
    tensors, _ = golden("guidance")
    for branch, labels in (("cond", tensors["y"]), ("uncond", torch.full_like(tensors["y"], 10))):
        full, base = model.predict_with_base(tensors["x"], tensors["t"], labels)
        assert relative_l2(full, tensors[f"full_{branch}"]) < 1e-5
        assert relative_l2(base, tensors[f"base_{branch}"]) < 1e-5


@pytest.mark.parametrize("name", golden("guidance")[1]["variants"])
@torch.no_grad()
def test_guided_predictions_are_raev2s(model, monkeypatch, name):
    """Each sample has a time of its own there, some of them exactly at an interval's end."""
    tensors, config = golden("guidance")
    settings, asked = settings_of(config["variants"][name]), Asked(model, monkeypatch)
    for i, t in enumerate(tensors["t"].tolist()):
        x = tensors["x"][i : i + 1]
        velocity = guided_velocity(model, tensors["y"][i : i + 1], settings, None)(x, t)
        assert relative_l2(data_from_velocity(x, velocity, t), tensors[f"guided.{name}"][i : i + 1]) < 1e-5, t
    assert len(asked.batches) == 5  # one pass a step
    assert set(asked.batches) == ({1, 2} if "cfg" in name else {1})


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("name", golden("sampling")[1]["variants"])
@torch.no_grad()
def test_samples_are_raev2s_with_and_without_its_clamp(model, name, steps, clamped):
    """At this shift every time but the last is above the clamp."""
    tensors, config = golden("sampling")
    settings = settings_of(
        config["variants"][name],
        num_steps=steps + 1,
        time_grid="linear",
        time_shift=config["shift"],
        clamp_velocity=clamped,
    )
    velocity = counting(guided_velocity(model, tensors["y"], settings, None))
    latents = settings.solve(model, velocity, tensors["x_noise"])
    assert velocity.evaluations == steps
    assert relative_l2(latents, tensors[f"{name}.euler_{steps}"]) < 1e-4


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("name", golden("sampling_text")[1]["variants"])
@torch.no_grad()
def test_samples_of_texts_are_raev2s(name, steps):
    tensors, config = golden("sampling_text")
    _, state, of_model = read("raev2_ddt_ig_text.safetensors")
    text, null = (
        Condition(tokens=tensors[f"context{kind}"], mask=tensors[f"attn_mask{kind}"].bool())
        for kind in ("", "_null")
    )
    model = golden_model_v2(state, of_model, null_text=null).eval()
    # a scale of internal guidance up to 1 is none there
    variant = {key: value for key, value in config["variants"][name].items() if key == "cfg"}
    grid = {"num_steps": steps + 1, "time_grid": "linear", "time_shift": config["shift"]}
    settings = settings_of(variant, clamp_velocity=True, **grid)  # of 50 steps the last lies below the clamp
    given = [Request(condition=text, null=null)] if variant else []  # which is for guidance alone
    for request in (Request(condition=text), *given):
        latents = settings.solve(model, guided_velocity(model, request, settings, None), tensors["x_noise"])
        assert relative_l2(latents, tensors[f"{name}.euler_{steps}"]) < 1e-4


@torch.no_grad()
def test_below_the_clamp_raev2_ends_beside_the_predicted_data(model):
    tensors, _ = golden("sampling")
    found = {}
    for clamped in (True, False):
        settings = SamplerSettings(num_steps=51, time_grid="linear", time_shift=1.0, clamp_velocity=clamped)
        found[clamped] = settings.solve(
            model, guided_velocity(model, tensors["y"], settings, None), tensors["x_noise"]
        )
    wanted = tensors["plain.shift_1.0.euler_50"]
    assert relative_l2(found[True], wanted) < 1e-4
    assert relative_l2(found[False], wanted) > 1e-3


def test_the_linear_grid_is_raev2s():
    tensors, config = golden("sampling")
    for name, shift in (
        ("time_grid_10", config["shift"]),
        ("time_grid_50", config["shift"]),
        ("time_grid_50.shift_1.0", 1.0),
    ):
        wanted = tensors[name].tolist()
        assert time_grid(len(wanted), shift, "linear") == pytest.approx(wanted, abs=2e-7)


@pytest.mark.parametrize("solver", ["euler", "heun", "dopri5"])
@torch.no_grad()
def test_every_solver_ends_at_the_data_that_it_saw_last(model, solver):
    """Nothing is asked at t = 0, where the velocity of predicted data does not exist."""
    tensors, config = golden("sampling")
    settings = SamplerSettings(num_steps=5, solver=solver, time_grid="linear", time_shift=config["shift"])
    velocity, asked = guided_velocity(model, tensors["y"], settings, None), []

    def noting(x, t):
        asked.append((x, t))
        return velocity(x, t)

    latents = settings.solve(model, noting, tensors["x_noise"])
    x, t = asked[-1]
    assert t > 0
    expected = model.predict(x, torch.full((len(x),), t), tensors["y"])
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)


def test_internal_guidance_is_refused_in_one_line_where_it_cannot_be(model):
    _, state, config = read("raev2_ddt.safetensors")
    without, y = golden_model_v2(state, config), torch.tensor([1])
    settings = SamplerSettings(ig_scale=1.5)
    with pytest.raises(
        ConfigError, match=r"ig_scale=1\.5\) needs a network with an early head, and this one has none"
    ):
        guided_velocity(without, y, settings, None)
    with pytest.raises(ConfigError, match="and a guide are two kinds of autoguidance; take one"):
        guided_velocity(model, y, settings, model)
    with pytest.raises(ConfigError, match="trunk_every must be 1"):
        guided_velocity(model, y, SamplerSettings(ig_scale=1.5, trunk_every=2), None)
    with pytest.raises(ConfigError, match=r"guidance interval \(0\.9, 0\.1\)"):
        guided_velocity(model, y, SamplerSettings(ig_scale=1.5, ig_interval=(0.9, 0.1)), None)


def test_clamping_is_for_networks_that_predict_data():
    golden_file, state, config = read("raev2_ddt.safetensors")
    model = golden_model_v2(state, config)
    model.prediction = type(model.prediction).VELOCITY
    with pytest.raises(ConfigError, match="clamp_velocity is for networks that predict data"):
        guided_velocity(model, golden_file["y"], SamplerSettings(clamp_velocity=True), None)


def test_settings_name_internal_guidance_only_where_it_acts():
    assert not {
        key for key in SamplerSettings().describe() if key.startswith("ig_") or key == "clamp_velocity"
    }
    described = SamplerSettings(ig_scale=1.5, ig_interval=(0.1, 1.0), clamp_velocity=True).describe()
    assert described["ig_interval"] == [0.1, 1.0]
    assert described["clamp_velocity"] is True
    assert SamplerSettings(cfg_scale=2.0, ig_unconditional_scale=0.5).uses_ig
    assert not SamplerSettings(ig_unconditional_scale=0.5).uses_ig
