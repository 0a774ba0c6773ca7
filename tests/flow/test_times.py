import itertools
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from scipy import integrate, special, stats

from unirae.core.errors import ConfigError
from unirae.flow.times import (
    MAX_TIME,
    TIME_GRIDS,
    TIME_KINDS,
    TimeDistribution,
    logit_normal_times,
    sample_times,
    shift_times,
    time_grid,
    time_shift,
    uniform_times,
    unshift_times,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "sampling_ddt.safetensors"
TRANSPORT = GOLDEN.with_name("raev2_transport.safetensors")
UNIFORMS = torch.linspace(0, 1 - 2**-24, 4001)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with safe_open(GOLDEN, "pt") as file:
        return {name: file.get_tensor(name) for name in ("raw_t", "shifted_t", "time_grid_50")}


@pytest.fixture(scope="module")
def golden_shift() -> float:
    with safe_open(GOLDEN, "pt") as file:
        return json.loads(file.metadata()["config"])["time_shift"]


def test_shift_matches_the_reference(golden, golden_shift):
    torch.testing.assert_close(shift_times(golden["raw_t"], golden_shift), golden["shifted_t"])
    torch.testing.assert_close(unshift_times(golden["shifted_t"], golden_shift), golden["raw_t"])


def test_grid_matches_the_reference(golden, golden_shift):
    grid = torch.tensor(time_grid(50, golden_shift))
    torch.testing.assert_close(grid, golden["time_grid_50"], rtol=0, atol=1e-6)


def test_shift_follows_from_the_latents_size():
    assert time_shift((768, 16, 16)) == pytest.approx(6.928, abs=1e-3)
    assert time_shift((768, 32, 32)) == pytest.approx(13.856, abs=1e-3)
    assert time_shift((192, 8, 6)) == pytest.approx((192 * 8 * 6 / 4096) ** 0.5)
    assert time_shift((4, 32, 32)) == 1
    assert time_shift((3, 4, 4)) == 1  # never towards data


@given(st.floats(0, 1), st.floats(0.05, 50))
def test_unshift_inverts_shift(t, shift):
    moved = shift_times(t, shift)
    assert 0 <= moved <= 1
    assert unshift_times(moved, shift) == pytest.approx(t, abs=1e-12)
    assert moved == pytest.approx(shift * t / (1 + (shift - 1) * t), abs=1e-12)  # as the paper writes it


@given(st.floats(0.05, 50))
def test_shift_keeps_both_ends_exactly(shift):
    assert shift_times(0.0, shift) == 0
    assert shift_times(1.0, shift) == 1


@given(st.integers(2, 300), st.floats(0.5, 50))
def test_grids_descend_from_noise_to_where_they_say(num_steps, shift):
    reference, to_zero, log_odds, linear = grids = [time_grid(num_steps, shift, kind) for kind in TIME_GRIDS]
    for grid in grids:
        assert len(grid) == num_steps
        assert grid[0] == 1
        assert all(a > b for a, b in pairwise(grid))
    assert reference[:-1] == to_zero[:-1]
    assert to_zero[-1] == linear[-1] == 0
    assert reference[-1] == pytest.approx(shift_times(1 - MAX_TIME, shift))
    assert log_odds[-1] == pytest.approx(reference[-1])


@pytest.mark.parametrize("shift", [1.0, 6.93])
def test_log_odds_grid_steps_evenly_in_the_log_odds_of_half_the_shift(shift):
    raw = torch.tensor([unshift_times(t, shift**0.5) for t in time_grid(30, shift, "log_odds")]).double()
    steps = ((raw + 0.05) / (1 - raw + 0.05)).log().diff()
    torch.testing.assert_close(steps, steps.mean().expand(29), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.8, 1.6), (1.0, 0.5)])
def test_logit_normal_quantiles_match_scipy(mean, std):
    normal = stats.norm(mean, std)
    wanted = special.expit(normal.ppf(UNIFORMS.double().numpy() * normal.cdf(special.logit(MAX_TIME))))
    found = logit_normal_times(UNIFORMS, mean=mean, std=std)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), torch.from_numpy(wanted), rtol=1e-6, atol=1e-12)


def test_logit_normal_moments_match_the_density():
    uniforms = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    times = logit_normal_times(uniforms).double()
    mass = stats.norm.cdf(special.logit(MAX_TIME))
    for moment in (1, 2, 3):

        def integrand(t, moment=moment):
            return t**moment * stats.norm.pdf(special.logit(t)) / (t * (1 - t)) / mass

        assert times.pow(moment).mean() == pytest.approx(integrate.quad(integrand, 0, MAX_TIME)[0], abs=1e-5)


def test_a_tight_truncation_cuts_and_keeps_the_shape():
    times = logit_normal_times(UNIFORMS, high=0.5)  # the median, so the cut keeps half
    torch.testing.assert_close(times, logit_normal_times(UNIFORMS.double() / 2, high=1.0))
    assert times.max() <= 0.5


def test_times_are_finite_and_inside_at_the_ends():
    for kind, high in itertools.product(TIME_KINDS, (0.5, MAX_TIME, 1.0)):
        times = sample_times(kind, UNIFORMS, high=high)
        assert times.isfinite().all()
        assert times[0] == 0
        assert 0.99 * high < times.max() <= high
        assert (times.diff() >= 0).all()


def test_uniform_times_are_the_uniforms_scaled():
    torch.testing.assert_close(uniform_times(UNIFORMS), UNIFORMS * MAX_TIME)


def test_mistakes_are_named_with_what_is_right():
    with pytest.raises(ConfigError, match=r"'lognormal'; known: logit_normal, uniform"):
        sample_times("lognormal", UNIFORMS)
    with pytest.raises(ConfigError, match=r"num_steps=1 .* at least 2"):
        time_grid(1, 1.0)
    with pytest.raises(ConfigError, match=r"'zero'; known: reference, to_zero"):
        time_grid(10, 1.0, "zero")
    with pytest.raises(ConfigError, match="shift 0 must be positive"):
        time_grid(10, 0)
    with pytest.raises(ConfigError, match="std=0 must be positive"):
        logit_normal_times(UNIFORMS, std=0)
    for high in (0.0, 1.5):
        with pytest.raises(ConfigError, match=f"the highest time {high} must be above 0 and at most 1"):
            TimeDistribution(high=high).sample(UNIFORMS)


@pytest.mark.parametrize(("mean", "std"), [(0, 1), (-0.4, 1.3)])
def test_untruncated_times_of_any_mean_and_spread_are_raev2s(mean, std):
    with safe_open(TRANSPORT, "pt") as file:
        normal, raw, shifted = (
            file.get_tensor(f"time.logit-normal_{mean}_{std}.{name}") for name in ("normal", "raw", "shifted")
        )
    uniforms = torch.special.ndtr(normal.double())
    found = TimeDistribution(mean=mean, std=std, high=1.0).sample(uniforms)
    torch.testing.assert_close(found, raw, rtol=1e-5, atol=0)
    torch.testing.assert_close(shift_times(found, 8.0), shifted, rtol=1e-5, atol=0)


def test_a_distribution_says_what_it_is():
    assert TimeDistribution().describe() == "logit_normal(0, 1) up to 0.999"
    assert TimeDistribution(kind="uniform", high=1.0).describe() == "uniform up to 1"
