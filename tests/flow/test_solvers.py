import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from gaussian import GaussianFlow
from unirae.core.errors import ConfigError
from unirae.flow.prediction import data_from_velocity
from unirae.flow.solvers import (
    SOLVERS,
    counting,
    dopri5,
    euler,
    euler_maruyama,
    heun,
    multistep,
    multistep3,
    solve,
)
from unirae.flow.times import time_grid

NOISE = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ORDERS = {"euler": 1, "heun": 2, "multistep": 2}


def error(name: str, flow: GaussianFlow, times: list[float]) -> float:
    found = solve(name, flow.velocity, NOISE, times)
    return (found - flow.solution(NOISE, times[-1])).abs().max().item()


def order(name: str, shift: float, kind: str) -> float:
    """Of the error summed over several flows, because the leading terms may cancel for one of them."""
    flows = [
        GaussianFlow(mean=mean, std=std) for mean, std in [(1.5, 0.3), (0.0, 0.5), (-1.0, 0.7), (0.5, 1.6)]
    ]
    grids = [time_grid(points, shift, kind) for points in (161, 321)]
    coarse, fine = (sum(error(name, flow, times) for flow in flows) for times in grids)
    return math.log2(coarse / fine)


@pytest.mark.parametrize("name", ORDERS)
@settings(max_examples=10, deadline=None)
@given(shift=st.floats(1, 4), kind=st.sampled_from(["reference", "to_zero"]))
def test_solvers_converge_at_their_order_down_to_data(name, shift, kind):
    assert order(name, shift, kind) == pytest.approx(ORDERS[name], abs=0.1)


def test_multistep_beats_euler_at_the_same_cost_and_rivals_heun():
    flow = GaussianFlow()
    at = {name: error(name, flow, time_grid(50, 2.45)) for name in ORDERS}
    assert at["multistep"] < at["euler"] / 20
    assert at["multistep"] < 2 * error("heun", flow, time_grid(25, 2.45))


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("kind", ["reference", "to_zero"])
def test_dopri5_follows_its_tolerance(tolerance, kind):
    flow, times = GaussianFlow(), time_grid(5, 2.45, kind)
    found = dopri5(flow.velocity, NOISE, times, rtol=tolerance, atol=tolerance)
    # the tolerance is a step's; errors of steps add up
    assert (found - flow.solution(NOISE, times[-1])).abs().max() < 100 * tolerance


def test_dopri5_is_as_careful_with_one_hard_sample_among_easy_ones():
    flow, times = GaussianFlow(std=0.05), time_grid(5, 1.0)
    hard = torch.zeros(1000, 1, dtype=torch.float64)
    hard[0] = 1.0
    x = hard * NOISE[0, 0]
    found = dopri5(lambda x, t: hard * flow.velocity(x, t), x, times, rtol=1e-6, atol=1e-6)
    alone = dopri5(flow.velocity, x[:1], times, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[:1], alone, rtol=1e-6, atol=1e-6)


def test_evaluations_are_what_the_table_says():
    flow, times = GaussianFlow(), time_grid(10, 2.0)
    wanted = {"euler": 9, "heun": 18, "multistep": 9, "multistep3": 9, "sde": 9}
    for name, evaluations in wanted.items():
        velocity = counting(flow.velocity)
        solve(name, velocity, NOISE, times, noise=lambda step: NOISE)
        assert velocity.evaluations == evaluations
    loose, tight = counting(flow.velocity), counting(flow.velocity)
    solve("dopri5", loose, NOISE, times, rtol=1e-2, atol=1e-2)
    solve("dopri5", tight, NOISE, times, rtol=1e-9, atol=1e-9)
    assert 6 < loose.evaluations < tight.evaluations


@pytest.mark.parametrize("name", SOLVERS)
def test_half_precision_of_a_velocity_does_not_narrow_x(name):
    flow, times = GaussianFlow(), time_grid(200, 1.0)
    seen = set()

    def velocity(x, t):
        assert isinstance(t, float)
        seen.add(x.dtype)
        return flow.velocity(x, t).bfloat16()

    x = NOISE.bfloat16()
    found = solve(name, velocity, x, times, noise=lambda step: torch.zeros_like(x), rtol=1e-2, atol=1e-2)
    assert found.dtype == torch.float32
    assert seen == {torch.float32}
    if name in ("euler", "multistep", "multistep3"):  # steps below bf16's resolution of x must not get lost
        exact = solve(name, flow.velocity, NOISE.bfloat16().double(), times)
        assert (found - exact).abs().max() < 5e-3


@pytest.mark.parametrize("name", SOLVERS)
def test_the_callers_noise_is_left_alone(name):
    x = NOISE.float()
    solve(name, GaussianFlow().velocity, x, time_grid(5, 1.0), noise=lambda step: NOISE)
    assert torch.equal(x, NOISE.float())


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_sde_reaches_the_data_distribution(shift):
    flow, generator = GaussianFlow(), torch.Generator().manual_seed(0)
    x = torch.randn(50_000, 1, generator=generator)
    times = time_grid(200, shift, "to_zero")
    found = euler_maruyama(flow.velocity, x, times, lambda step: torch.randn(x.shape, generator=generator))
    assert found.mean().item() == pytest.approx(flow.mean, abs=0.015)
    assert found.std().item() == pytest.approx(flow.std, rel=0.02)
    # it forgets its start at the rate ½·w/spread², whatever the number of steps; the ordinary equation does not
    rate = integrate.quad(lambda t: 0.5 * t / flow.spread(t) ** 2, 0, 1)[0]
    memory = torch.corrcoef(torch.cat([x, found], 1).T)[0, 1].item()
    assert memory == pytest.approx(math.exp(-rate), abs=0.02)


def test_sde_has_the_marginals_on_the_way():
    flow, generator = GaussianFlow(), torch.Generator().manual_seed(1)
    x = torch.randn(50_000, 1, generator=generator)
    for stop in (0.7, 0.3):
        times = [1 - (1 - stop) * k / 100 for k in range(101)]
        at = euler_maruyama(flow.velocity, x, times, lambda step: torch.randn(x.shape, generator=generator))
        assert at.mean().item() == pytest.approx((1 - stop) * flow.mean, abs=0.02)
        assert at.std().item() == pytest.approx(flow.spread(stop), rel=0.02)


def test_sde_asks_for_noise_by_step_and_ends_without():
    flow, asked = GaussianFlow(), []

    def noise(step):
        asked.append(step)
        return torch.full_like(NOISE, 0.1 * step)

    times = time_grid(6, 1.0, "to_zero")
    found = euler_maruyama(flow.velocity, NOISE, times, noise)
    assert asked == [0, 1, 2, 3]
    alone = euler_maruyama(flow.velocity, NOISE, [1.0, 0.0], noise)
    torch.testing.assert_close(alone, data_from_velocity(NOISE, flow.velocity(NOISE, 1.0), 1.0))
    assert len(asked) == 4
    assert found.isfinite().all()


def test_the_first_step_of_all_is_eulers():
    flow = GaussianFlow()
    assert torch.equal(multistep(flow.velocity, NOISE, [1.0, 0.5]), euler(flow.velocity, NOISE, [1.0, 0.5]))
    # a velocity linear in t alone is integrated exactly by the second-order ones, with steps of any length
    times = [1.0, 0.9, 0.5, 0.45, 0.0]
    assert heun(lambda x, t: torch.full_like(x, t), NOISE, times).sub(NOISE).add(0.5).abs().max() < 1e-12
    later = multistep(lambda x, t: torch.full_like(x, t), NOISE, times)
    first_step_misses = 0.1**2 / 2
    assert later.sub(NOISE).add(0.5 + first_step_misses).abs().max() < 1e-12


def test_multistep3_follows_parabolas_in_the_number_of_the_step():
    flow, even = GaussianFlow(), [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    assert torch.equal(multistep3(flow.velocity, NOISE, [1.0, 0.5]), euler(flow.velocity, NOISE, [1.0, 0.5]))
    start = multistep3(flow.velocity, NOISE, even[:3])
    torch.testing.assert_close(start, multistep(flow.velocity, NOISE, even[:3]))
    # on even times the number is the time, and from the third step on parabolas are integrated exactly
    at = [multistep3(lambda x, t: torch.full_like(x, t * t), NOISE, even[:n])[0, 0] for n in (3, 4, 5, 6)]
    gained = [float(after - before) for before, after in itertools.pairwise(at)]
    assert gained == pytest.approx([(b**3 - a**3) / 3 for a, b in itertools.pairwise(even[2:])], abs=1e-12)
    # where t is a cubic of the number, parabolas in the number are: v = k², ∫ k²·t'(k) dk from 4 to 5
    times, passed = [1 - (k / 10 + k**3 / 500) for k in range(7)], []

    def square_of_number(x, t):
        passed.append(x[0, 0].item())
        return torch.full_like(x, (len(passed) - 1) ** 2)

    multistep3(square_of_number, NOISE, times)
    wanted = -((5**3 - 4**3) / 30 + 3 * (5**5 - 4**5) / 2500)
    assert passed[5] - passed[4] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("shift", [1.0, 2.45, 6.93])
@pytest.mark.parametrize("std", [0.05, 0.3, 0.6, 1.5])
def test_nine_evaluations_of_multistep3_beat_forty_nine_of_euler(shift, std):
    flow = GaussianFlow(std=std)
    few = error("multistep3", flow, time_grid(10, shift, "log_odds"))
    assert few < error("euler", flow, time_grid(50, shift))


def test_multistep3_converges_on_both_grids():
    flow = GaussianFlow()
    for kind in ("reference", "log_odds"):
        coarse, fine = (error("multistep3", flow, time_grid(points, 2.45, kind)) for points in (81, 161))
        assert fine < coarse / 3.5


class Singular:
    """A velocity that does not exist at t = 0, such as (x − x̂)/t; notes what it was asked and answered."""

    def __init__(self, flow: GaussianFlow) -> None:
        self._flow = flow
        self.last: list[tuple[torch.Tensor, float, torch.Tensor]] = []
        self.times: list[float] = []

    def __call__(self, x: torch.Tensor, t: float) -> torch.Tensor:
        assert t > 0
        velocity = self._flow.velocity(x, t)
        self.times.append(t)
        self.last.append((x, t, velocity))
        return velocity


@pytest.mark.parametrize("kind", ["to_zero", "linear"])
@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "sde"])
def test_nothing_is_asked_at_zero_and_the_last_step_lands_on_the_expected_data(name, kind):
    flow, velocity, smallest = GaussianFlow(), Singular(GaussianFlow()), 0.004
    found = solve(name, velocity, NOISE, time_grid(80, 2.45, kind), smallest_time=smallest)
    assert (found - flow.solution(NOISE, 0.0)).abs().max() < {"euler": 0.1}.get(name, 0.02)
    if name == "dopri5":
        assert min(velocity.times) == smallest
    if name in ("euler", "heun", "dopri5"):
        x, t, last = velocity.last[-1]
        torch.testing.assert_close(found, data_from_velocity(x, last, t))


def test_heun_is_corrected_at_zero_only_where_there_is_a_velocity():
    flow, times = GaussianFlow(), time_grid(6, 1.0, "linear")
    whole, singular = counting(flow.velocity), counting(flow.velocity)
    solve("heun", whole, NOISE, times)
    solve("heun", singular, NOISE, times, smallest_time=0.01)
    assert (whole.evaluations, singular.evaluations) == (10, 9)


def test_a_grid_that_ends_above_zero_is_walked_as_ever():
    flow, times = GaussianFlow(), time_grid(9, 2.45)
    for name in ("euler", "heun"):
        found = solve(name, flow.velocity, NOISE, times, smallest_time=times[-1])
        assert torch.equal(found, solve(name, flow.velocity, NOISE, times)), name
    found = solve("dopri5", flow.velocity, NOISE, times, smallest_time=times[-1])
    assert (found - flow.solution(NOISE, times[-1])).abs().max() < 1e-4


def test_a_start_below_the_smallest_time_is_one_step():
    flow = GaussianFlow()
    found = solve("dopri5", flow.velocity, NOISE, [0.003, 0.0], smallest_time=0.01)
    assert torch.equal(found, euler(flow.velocity, NOISE, [0.003, 0.0]))


def test_mistakes_are_named_with_what_is_right():
    velocity = GaussianFlow().velocity
    with pytest.raises(
        ConfigError, match="unknown solver 'rk4'; known: euler, heun, multistep, multistep3, dopri5, sde"
    ):
        solve("rk4", velocity, NOISE, [1.0, 0.0])
    with pytest.raises(ConfigError, match="needs noise="):
        solve("sde", velocity, NOISE, [1.0, 0.0])
    for times in ([1.0], [0.0, 1.0], [1.0, 0.5, 0.5], [1.1, 0.0], [1.0, -0.1]):
        with pytest.raises(ConfigError, match="descend within"):
            solve("euler", velocity, NOISE, times)
