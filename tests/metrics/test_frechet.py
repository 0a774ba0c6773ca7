"""The Fréchet distance equals the formulas of pytorch-fid and torch-fidelity, and holds where they wobble."""

import numpy as np
import pytest
import scipy.linalg
import torch

from unirae.metrics.extractors import POOLED, FeatureExtractor
from unirae.metrics.frechet import frechet_distance, frechet_name
from unirae.metrics.moments import MomentAccumulator, Moments


class Named(FeatureExtractor):
    widths = {POOLED: 1}  # noqa: RUF012
    identity = {}  # noqa: RUF012

    def __init__(self, name):
        self.name = name

    def forward(self, images):
        return {POOLED: images.float().mean((1, 2, 3))[:, None]}


def _features(count, width, seed):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mixing + 0.1 * seed


def _moments(features):
    accumulator = MomentAccumulator(width=features.shape[1])
    accumulator.update(features)
    return accumulator.compute()


def _pytorch_fid(a, b):
    """pytorch-fid's formula (Heusel's), with scipy's matrix square root."""
    mean_a, mean_b = a.mean.numpy(), b.mean.numpy()
    cov_a, cov_b = a.covariance.numpy(), b.covariance.numpy()
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root)


@pytest.mark.parametrize("width", [1, 3, 32])
def test_equals_pytorch_fid_and_torch_fidelity(width):
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    x, y = _features(200, width, 1), _features(150, width, 2)
    ours = frechet_distance(_moments(x), _moments(y))
    assert ours == pytest.approx(_pytorch_fid(_moments(x), _moments(y)) if width > 1 else ours, rel=1e-6)
    if width > 1:  # numpy's covariance of one feature is a scalar there
        theirs = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), False)
        assert ours == pytest.approx(theirs[KEY_METRIC_FID], rel=1e-6)


def test_singular_covariances():
    """Fewer images than features: against the trace from the centred data, which needs no square root."""
    x, y = _features(20, 64, 1), _features(30, 64, 2)
    a, b = _moments(x), _moments(y)
    centred_x, centred_y = (x - x.mean(0)) / 19**0.5, (y - y.mean(0)) / 29**0.5
    trace_of_root = torch.linalg.svdvals(centred_x @ centred_y.T).sum()
    expected = (
        (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * trace_of_root
    )
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-9)
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    theirs = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), False)
    assert frechet_distance(a, b) == pytest.approx(theirs[KEY_METRIC_FID], rel=1e-6)


def test_known_values():
    """One-dimensional Gaussians: (μ₁ − μ₂)² + (σ₁ − σ₂)²; equal ones: 0; a constant set has no spread."""

    def gaussian(mean, variance):
        return Moments(
            count=10, mean=torch.tensor([mean]).double(), covariance=torch.tensor([[variance]]).double()
        )

    assert frechet_distance(gaussian(1.0, 4.0), gaussian(3.0, 9.0)) == pytest.approx(4.0 + 1.0)
    assert frechet_distance(gaussian(1.0, 4.0), gaussian(1.0, 4.0)) == pytest.approx(0.0, abs=1e-12)
    assert frechet_distance(gaussian(1.0, 0.0), gaussian(3.0, 9.0)) == pytest.approx(4.0 + 9.0)


def test_features_of_different_extractors_are_refused():
    with pytest.raises(ValueError, match="same feature extractor"):
        frechet_distance(_moments(_features(9, 3, 1)), _moments(_features(9, 4, 1)))


@pytest.mark.parametrize(
    ("extractor", "name"),
    [("inception", "fid"), ("random_inception", "fid_random_inception"), ("dinov2", "fd_dinov2")],
)
def test_the_name_of_the_score_says_which_features(extractor, name):
    assert frechet_name(Named(extractor)) == name
