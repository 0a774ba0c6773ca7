"""The spread that a bootstrap states is the one of fresh draws; extrapolation removes the bias of few images."""

import pytest
import torch

from unirae.core.errors import ConfigError
from unirae.metrics.frechet import frechet_distance
from unirae.metrics.moments import Moments, moments_of
from unirae.metrics.resampling import Confidence, bootstrap, extrapolate, with_confidence

WIDTH = 8


def draw(count, seed, shift=0.3):
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)) + shift


def standard():
    return Moments(count=0, mean=torch.zeros(WIDTH).double(), covariance=torch.eye(WIDTH).double())


def test_the_bootstraps_spread_is_that_of_fresh_draws():
    fresh = torch.tensor([frechet_distance(moments_of(draw(400, seed)), standard()) for seed in range(60)])
    stated = bootstrap(draw(400, 0), standard(), resamples=60)
    assert stated == pytest.approx(float(fresh.std()), rel=0.35)


def test_the_limit_of_many_images_has_no_bias():
    """The true distance is the shift's square, 8 · 0.09; of 200 images it comes out larger."""
    truth = WIDTH * 0.3**2
    values = [
        (frechet_distance(moments_of(draw(200, seed)), standard()), extrapolate(draw(200, seed), standard()))
        for seed in range(20)
    ]
    plain = sum(value for value, _ in values) / 20
    limit = sum(estimate.value for _, estimate in values) / 20
    assert plain - truth > 0.1
    assert abs(limit - truth) < 0.25 * (plain - truth)
    assert all(estimate.standard_error > 0 for _, estimate in values)


def test_what_a_record_says():
    features = draw(120, 0)
    plain = frechet_distance(moments_of(features), standard())
    known = with_confidence(features, standard(), Confidence(method="bootstrap", resamples=5))
    assert known.value == pytest.approx(plain, rel=1e-12)
    known = known.uncertainty()
    assert known["low"] < plain < known["high"]
    assert "5 resamples" in known["method"]
    limit = with_confidence(features, standard(), Confidence(method="extrapolate")).uncertainty()
    assert limit["at_infinite_count"] < plain
    assert limit["of_the_limit"]["standard_error"] > 0


def test_mistakes():
    with pytest.raises(ValueError, match="at least 2 resamples"):
        bootstrap(draw(10, 0), standard(), resamples=1)
    with pytest.raises(ConfigError, match="needs at least 2"):
        Confidence(method="bootstrap", resamples=1)
    with pytest.raises(ValueError, match="too few to extrapolate"):
        extrapolate(draw(99, 0), standard())
