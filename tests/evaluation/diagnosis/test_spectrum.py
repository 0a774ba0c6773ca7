"""The spectrum of latents: known for covariances that are written down."""

import math

import pytest
import torch

from unirae.evaluation.diagnosis.spectrum import channel_deviation, spectrum_of
from unirae.metrics.moments import Moments


def moments(covariance):
    covariance = torch.tensor(covariance, dtype=torch.float64)
    return Moments(count=100, mean=torch.zeros(len(covariance)).double(), covariance=covariance)


def test_independent_channels_have_the_rank_of_their_number():
    """Whatever their scales: latents are normalised before a generator sees them."""
    found = spectrum_of(moments([[4.0, 0, 0], [0, 1.0, 0], [0, 0, 0.01]]))
    assert found.shares == pytest.approx([1 / 3] * 3)
    assert found.effective_rank == pytest.approx(3)
    assert found.directions_for(0.9) == 3


def test_two_channels_with_a_correlation():
    """Shares (1 ± r)/2, and the entropy by hand."""
    found = spectrum_of(moments([[9.0, 1.5], [1.5, 1.0]]))
    assert found.shares == pytest.approx([0.75, 0.25])
    assert found.effective_rank == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert found.directions_for(0.75) == 1
    assert found.directions_for(0.9) == 2


def test_equal_channels_are_one_direction_and_dead_ones_none():
    found = spectrum_of(moments([[1.0, 2.0, 0], [2.0, 4.0, 0], [0, 0, 0]]))
    assert found.shares == pytest.approx([1.0, 0.0])
    assert found.effective_rank == pytest.approx(1.0)


def test_deviations():
    assert channel_deviation(moments([[4.0, 1.0], [1.0, 9.0]])).tolist() == [2.0, 3.0]
