import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirae.core.errors import ConfigError
from unirae.training.schedule import Schedule, resolve_steps

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "lr_schedules.json").read_text())


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_reference_learning_rates(stage):
    golden = GOLDEN[stage]
    numbers, per_epoch = golden["schedule"], golden["steps_per_epoch"]
    schedule = Schedule(
        kind=numbers["type"],
        base_lr=numbers["base_lr"],
        final_lr=numbers["final_lr"],
        warmup_steps=numbers["warmup_epochs"] * per_epoch,
        decay_end_steps=numbers["decay_end_epoch"] * per_epoch,
        warmup_from_zero=numbers["warmup_from_zero"],
    )
    for update, lr in golden["lr"].items():
        assert schedule.lr(int(update)) == pytest.approx(lr, rel=1e-9), update


@given(st.sampled_from(["cosine", "linear"]), st.integers(0, 20), st.integers(0, 50))
def test_rises_to_the_base_then_falls_to_the_final_and_stays(kind, warmup, decay):
    end = warmup + decay
    schedule = Schedule(kind=kind, base_lr=1.0, final_lr=0.1, warmup_steps=warmup, decay_end_steps=end)
    rates = [schedule.lr(k) for k in range(end + 3)]
    assert all(a < b for a, b in pairwise(rates[:warmup]))
    assert all(a >= b for a, b in pairwise(rates[warmup:]))
    assert rates[end:] == [pytest.approx(0.1)] * 3
    if warmup:
        assert rates[warmup - 1] == 1.0
    assert 0 < min(rates) <= max(rates) <= 1.0


def test_constant_stays_after_its_warm_up():
    schedule = Schedule(kind="constant", base_lr=1.0, final_lr=0.1, warmup_steps=2, decay_end_steps=5)
    assert [schedule.lr(k) for k in range(8)] == [0.5] + [1.0] * 7


def test_unknown_kind_names_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"scheduler\.type='exp' is unknown; choose cosine, linear or constant"
    ):
        Schedule(kind="exp", base_lr=1.0, final_lr=0.1, warmup_steps=2, decay_end_steps=5)


def test_lengths_in_epochs_or_in_steps():
    assert resolve_steps(epochs=16, steps=None, steps_per_epoch=2502, name="n") == 16 * 2502
    assert resolve_steps(epochs=0.5, steps=None, steps_per_epoch=10, name="n") == 5
    assert resolve_steps(epochs=None, steps=7, steps_per_epoch=2502, name="n") == 7
    assert resolve_steps(epochs=0, steps=None, steps_per_epoch=10, name="n") == 0


def test_a_length_is_given_once():
    with pytest.raises(ConfigError, match=r"model\.x is given in epochs \(1\) and in steps \(0\)"):
        resolve_steps(epochs=1, steps=0, steps_per_epoch=10, name="model.x")
    with pytest.raises(ConfigError, match=r"model\.x needs a length"):
        resolve_steps(epochs=None, steps=None, steps_per_epoch=10, name="model.x")


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_other_rates_follow_in_proportion_and_the_schedules_own_to_the_last_bit(kind):
    schedule = Schedule(kind=kind, base_lr=3e-4, final_lr=7e-5, warmup_steps=7, decay_end_steps=30)
    for update in range(35):
        lr = schedule.lr(update)
        assert schedule.factor(update) == pytest.approx(lr / 3e-4, rel=1e-12)
        assert schedule.lr_from(0.02, update) == pytest.approx(0.02 / 3e-4 * lr, rel=1e-12)
        assert schedule.lr_from(3e-4, update) == lr


def test_a_rate_of_zero_has_no_proportions():
    schedule = Schedule(kind="constant", base_lr=0.0, final_lr=0.0, warmup_steps=0, decay_end_steps=5)
    assert schedule.lr_from(0.0, 3) == 0.0
    with pytest.raises(ConfigError, match="lr=0 cannot be scaled"):
        schedule.lr_from(0.1, 3)
