"""Streaming moments equal numpy's, whatever the order, the batches or the processes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirae.metrics.moments import MomentAccumulator, VarianceAccumulator


def _accumulate(features, sizes):
    accumulator = MomentAccumulator(width=features.shape[1])
    for batch in features.split(sizes):
        accumulator.update(batch)
    return accumulator.compute()


def _features(count=60, width=5, offset=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mixing + offset


def test_they_equal_numpy():
    features = _features()
    moments = _accumulate(features, 60)
    assert moments.count == 60
    np.testing.assert_allclose(moments.mean, features.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(features.numpy(), rowvar=False), rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 60), seed=st.integers(0, 1000))
def test_batches_and_order_do_not_matter(batch, seed):
    features = _features()
    shuffled = features[torch.randperm(60, generator=torch.Generator().manual_seed(seed))]
    whole, streamed = _accumulate(features, 60), _accumulate(shuffled, batch)
    torch.testing.assert_close(streamed.mean, whole.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(streamed.covariance, whole.covariance, rtol=1e-10, atol=1e-10)


def test_a_large_common_offset_does_not_cancel_the_covariance():
    """The naive E[xxᵀ] − μμᵀ is wrong in the second digit here."""
    features = _features()
    near, far = _accumulate(features, 7), _accumulate(features + 1e7, 7)
    torch.testing.assert_close(far.covariance, near.covariance, rtol=1e-7, atol=1e-7)


def test_updates_after_compute_count_on():
    features = _features()
    accumulator = MomentAccumulator(width=5)
    accumulator.update(features[:20])
    accumulator.compute()
    accumulator.update(features[20:])
    torch.testing.assert_close(accumulator.compute().covariance, _accumulate(features, 60).covariance)


def test_one_sample_and_nan_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        _accumulate(_features(count=1), 1)
    with pytest.raises(ValueError, match="not finite"):
        _accumulate(torch.tensor([[0.0], [float("nan")]]), 2)


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 60), offset=st.sampled_from([0.0, 1e7]))
def test_variances_are_the_diagonal(batch, offset):
    features = _features(width=6, offset=offset).reshape(60, 2, 3)
    accumulator = VarianceAccumulator(shape=(2, 3))
    for part in features.split(batch):
        accumulator.update(part)
    moments = accumulator.compute()
    assert moments.count == 60
    np.testing.assert_allclose(moments.mean, features.numpy().mean(0), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(moments.variance, features.numpy().var(0), rtol=1e-7)


def test_weights_count_as_repetitions():
    features = _features(width=3)
    weighted, repeated = VarianceAccumulator(shape=(3,)), VarianceAccumulator(shape=(3,))
    for part, times in ((features[:20], 3), (features[20:40], 1), (features[40:], 0)):
        weighted.update(part, float(times))
        for _ in range(times):
            repeated.update(part)
    one, other = weighted.compute(), repeated.compute()
    assert one.count == other.count == 80
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.variance, other.variance)


def test_one_sample_has_no_variance():
    accumulator = VarianceAccumulator(shape=(3,))
    accumulator.update(torch.ones(1, 3))
    with pytest.raises(ValueError, match="at least 2"):
        accumulator.compute()
