from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tiny_models import relative_l2
from unirae.core.errors import ConfigError
from unirae.flow.path import interpolate, velocity_loss
from unirae.flow.prediction import (
    Prediction,
    clamped_velocity,
    data_from_velocity,
    noise_from_velocity,
    prediction_loss,
    velocity_from_data,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "raev2_transport.safetensors"


@given(st.integers(0, 2**31), st.sampled_from([(3,), (2, 4, 4), (2, 3, 4, 5)]))
def test_a_velocity_leads_to_both_ends_and_the_data_back(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    data, noise = torch.randn(2, 5, *shape, generator=generator, dtype=torch.float64)
    t = torch.rand(5, generator=generator, dtype=torch.float64).clamp_min(1e-3)
    point = interpolate(data, noise, t)
    torch.testing.assert_close(data_from_velocity(point.xt, point.velocity, t), data)
    torch.testing.assert_close(noise_from_velocity(point.xt, point.velocity, t), noise)
    torch.testing.assert_close(velocity_from_data(point.xt, data, t), point.velocity)


def test_one_time_for_all_samples_may_be_a_number():
    xt, other = torch.randn(2, 3, 4, 2, 2)
    for convert in (data_from_velocity, noise_from_velocity, velocity_from_data):
        torch.testing.assert_close(convert(xt, other, 0.3), convert(xt, other, torch.full((3,), 0.3)))


def test_each_prediction_answers_both():
    data, noise = torch.randn(2, 3, 4, 2, 2)
    t = torch.tensor([0.1, 0.5, 1.0])
    point = interpolate(data, noise, t)
    for prediction, output in ((Prediction.VELOCITY, point.velocity), (Prediction.DATA, data)):
        torch.testing.assert_close(prediction.velocity(output, point.xt, t), point.velocity)
        torch.testing.assert_close(prediction.data(output, point.xt, t), data, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "prediction"), [("x", Prediction.DATA), ("velocity", Prediction.VELOCITY)])
@pytest.mark.parametrize("head", ["full", "base"])
def test_the_loss_is_that_of_raev2(name, prediction, head):
    """Some of its times are below the clamp, one is 0."""
    golden = load_file(GOLDEN)
    point = interpolate(golden["data"], golden["noise"], golden["t"])
    torch.testing.assert_close(point.xt, golden["xt"])
    found = prediction_loss(prediction, golden[f"output_{head}"], point, golden["t"], t_min=0.05)
    torch.testing.assert_close(found, golden[f"{name}.loss_{head}_per_sample"], rtol=1e-5, atol=0.0)


@pytest.mark.parametrize(("name", "prediction"), [("x", Prediction.DATA), ("velocity", Prediction.VELOCITY)])
def test_both_heads_add_up_to_raev2s_total(name, prediction):
    golden = load_file(GOLDEN)
    point = interpolate(golden["data"], golden["noise"], golden["t"])
    full, base = (
        prediction_loss(prediction, golden[f"output_{head}"], point, golden["t"], t_min=0.05)
        for head in ("full", "base")
    )
    for weight in (1.0, 0.5):
        torch.testing.assert_close(
            full + weight * base, golden[f"{name}.total_per_sample.base_coeff_{weight}"]
        )
        torch.testing.assert_close((full + weight * base).mean(), golden[f"{name}.total.base_coeff_{weight}"])


def test_the_clamped_velocity_is_raev2s():
    """Its target, and that of predicted data; of a predicted velocity it takes the output."""
    golden = load_file(GOLDEN)
    point, t = interpolate(golden["data"], golden["noise"], golden["t"]), golden["t"]
    assert relative_l2(clamped_velocity(point.velocity, t, 0.05), golden["v_target"]) < 1e-5
    inside = t > 0
    predicted = Prediction.DATA.velocity(golden["output_full"], golden["xt"], t)
    found = clamped_velocity(predicted, t, 0.05)[inside]
    assert relative_l2(found, golden["x.v_pred_full"][inside]) < 1e-5
    for one, time in zip(predicted[inside], t[inside].tolist(), strict=True):
        number = clamped_velocity(one[None], time, 0.05)
        torch.testing.assert_close(number, clamped_velocity(one[None], torch.tensor([time]), 0.05))
    assert torch.equal(golden["velocity.v_pred_full"], golden["output_full"])


def test_each_prediction_has_a_clamp_of_its_own():
    assert (Prediction.VELOCITY.t_min, Prediction.DATA.t_min) == (0.0, 0.05)


def test_without_a_clamp_a_predicted_velocity_has_the_loss_of_rae_to_the_bit():
    data, noise, output = torch.randn(3, 3, 4, 2, 2)
    t = torch.tensor([0.0, 0.5, 1.0])
    point = interpolate(data, noise, t)
    found = prediction_loss(Prediction.VELOCITY, output, point, t)
    assert torch.equal(found, velocity_loss(output, noise - data))


def test_predicted_data_need_a_clamp():
    point = interpolate(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1))
    with pytest.raises(ConfigError, match="t_min=0 divides by t = 0"):
        prediction_loss(Prediction.DATA, torch.zeros(1, 2), point, torch.zeros(1))


def test_names():
    assert Prediction.named("data") is Prediction.named(Prediction.DATA) is Prediction.DATA
    with pytest.raises(ConfigError, match="prediction='noise' is unknown; choose velocity or data"):
        Prediction.named("noise")
