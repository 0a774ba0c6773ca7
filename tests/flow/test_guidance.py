import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirae.core.errors import ConfigError
from unirae.flow.guidance import (
    autoguidance,
    classifier_free,
    conditional,
    guided,
    internal,
    internal_and_classifier_free,
    is_within,
)
from unirae.flow.solvers import counting, euler
from unirae.flow.times import time_grid

NULL = 10
SHARE = st.floats(0, 1, width=32)
X = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([1, 7, 3])


class Batch:
    """All that guidance knows of a condition: two can be joined."""

    def __init__(self, labels: torch.Tensor) -> None:
        self.labels = labels

    def cat(self, other: "Batch") -> "Batch":
        return Batch(torch.cat([self.labels, other.labels]))


GIVEN, NONE = Batch(LABELS), Batch(torch.full((3,), NULL))


class Model:
    """A denoiser whose answer shows its sample, time and label, and that remembers its batches."""

    def __init__(self, gain: float = 1.0, dtype: torch.dtype = torch.float32) -> None:
        self.gain, self.dtype = gain, dtype
        self.batches: list[list[int]] = []

    def __call__(self, x, t, condition):
        y = condition.labels
        assert t.shape == y.shape == x.shape[:1]
        assert t.dtype == x.dtype
        self.batches.append(y.tolist())
        return (self.gain * x + (t + 0.1 * y).view(-1, 1, 1, 1)).to(self.dtype)

    def of(self, t: float, y: torch.Tensor) -> torch.Tensor:
        return self.gain * X + (t + 0.1 * y).view(-1, 1, 1, 1)


@settings(deadline=None)  # the first example pays for what torch loads late
@given(SHARE, st.floats(0, 5), st.tuples(SHARE, SHARE).map(sorted))
def test_guidance_extrapolates_inside_and_is_plain_outside(t, scale, interval):
    low, high = interval
    found = guided(
        lambda x, t: 3 * x,
        lambda x, t: (3 * x, x),
        scale=scale,
        interval=(low, high),
    )(X, t)
    torch.testing.assert_close(found, X + scale * 2 * X if low <= t <= high else 3 * X)


def test_the_second_pass_is_computed_only_where_it_counts():
    for scale, interval, wanted_plain, wanted_both in [
        (2.0, (0.25, 0.75), 2, 3),  # both ends belong to the interval
        (2.0, (0.0, 1.0), 0, 5),
        (1.0, (0.0, 1.0), 5, 0),
        (0.0, (0.5, 0.5), 4, 1),
    ]:
        plain, both = counting(lambda x, t: x), counting(lambda x, t: (x, x))
        velocity = guided(plain, both, scale=scale, interval=interval)
        for t in (1.0, 0.75, 0.5, 0.25, 0.0):
            velocity(X, t)
        assert (plain.evaluations, both.evaluations) == (wanted_plain, wanted_both)


@given(st.floats(1, 30))
def test_an_interval_up_to_noise_guides_the_first_step_whatever_the_shift(shift):
    both = counting(lambda x, t: (x, x))
    euler(guided(lambda x, t: x, both, scale=2.0), X, time_grid(4, shift, "to_zero"))
    assert both.evaluations == 3


def test_classifier_free_guidance_of_both_passes_in_one_batch():
    model = Model()
    velocity = classifier_free(model, GIVEN, NONE, scale=2.5, interval=(0.2, 0.8))
    wanted, null = model.of(0.5, LABELS), model.of(0.5, torch.full((3,), NULL))
    torch.testing.assert_close(velocity(X, 0.5), null + 2.5 * (wanted - null))
    torch.testing.assert_close(velocity(X, 0.9), model.of(0.9, LABELS))
    assert model.batches == [[1, 7, 3, NULL, NULL, NULL], [1, 7, 3]]


def test_classifier_free_guidance_at_scale_1_never_sees_the_null_label():
    model = Model()
    velocity = classifier_free(model, GIVEN, NONE, scale=1.0)
    torch.testing.assert_close(velocity(X, 0.5), conditional(model, GIVEN)(X, 0.5))
    assert model.batches == [[1, 7, 3], [1, 7, 3]]


def test_autoguidance_asks_the_guide_only_inside():
    model, guide = Model(), Model(gain=0.5)
    velocity = autoguidance(model, guide, GIVEN, scale=1.42, interval=(0.0, 0.5))
    torch.testing.assert_close(
        velocity(X, 0.5),
        guide.of(0.5, LABELS) + 1.42 * (model.of(0.5, LABELS) - guide.of(0.5, LABELS)),
    )
    velocity(X, 0.51)
    assert (len(model.batches), len(guide.batches)) == (2, 1)


def test_guidance_does_not_amplify_half_precision_twice():
    model = Model(dtype=torch.bfloat16)
    found = classifier_free(model, GIVEN, NONE, scale=7.0)(X, 0.5)
    assert found.dtype == torch.float32
    wanted = model.of(0.5, LABELS).bfloat16().double()
    null = model.of(0.5, torch.full((3,), NULL)).bfloat16().double()
    torch.testing.assert_close(found, (null + 7 * (wanted - null)).float())


@pytest.mark.parametrize("interval", [(0.8, 0.3), (-0.1, 0.5), (0.2, 1.1), (float("nan"), 1.0)])
def test_an_impossible_interval_is_refused_at_every_scale(interval):
    for scale in (1.0, 2.0):
        with pytest.raises(ConfigError, match=r"0 <= low <= high <= 1"):
            classifier_free(Model(), GIVEN, NONE, scale=scale, interval=interval)


class TwoHeaded(Model):
    """A denoiser with an early head, whose velocity is half the other's."""

    def heads(self, x, t, condition):
        full = self(x, t, condition)
        return full, full / 2


def test_bounds_are_compared_in_float32_and_belong_to_the_interval():
    assert is_within(float(torch.tensor(0.8)), (0.1, 0.8))
    assert is_within(float(torch.tensor(0.1)), (0.1, 0.8))
    assert not is_within(0.8001, (0.1, 0.8))


@pytest.mark.parametrize(("t", "gain"), [(0.5, 0.5 + 1.8 * 0.5), (0.1, 1.0)])
def test_internal_guidance_leads_away_from_the_early_head_in_one_pass(t, gain):
    model = TwoHeaded()
    found = internal(model, model.heads, GIVEN, scale=1.8, interval=(0.25, 0.75))(X, t)
    torch.testing.assert_close(found, gain * model.of(t, LABELS))
    assert model.batches == [LABELS.tolist()]


@pytest.mark.parametrize(
    ("t", "batches", "gains"),
    [
        (0.5, [6], (0.5 + 1.5 * 0.5, 0.5 + 0.6 * 0.5)),
        (0.9, [6], (1.0, 1.0)),
        (0.2, [3], (0.5 + 1.5 * 0.5, None)),
        (0.05, [3], (1.0, None)),
    ],
)
def test_both_branches_are_guided_internally_before_the_label_guides(t, batches, gains):
    model = TwoHeaded()
    velocity = internal_and_classifier_free(
        model,
        model.heads,
        GIVEN,
        NONE,
        scale=1.3,
        interval=(0.3, 1.0),
        internal_scales=(1.5, 0.6),
        internal_interval=(0.1, 0.8),
    )
    wanted = gains[0] * model.of(t, LABELS)
    if gains[1] is not None:
        null = gains[1] * model.of(t, NONE.labels)
        wanted = null + 1.3 * (wanted - null)
    torch.testing.assert_close(velocity(X, t), wanted)
    assert [len(batch) for batch in model.batches] == batches
