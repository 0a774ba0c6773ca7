"""The scores of RAEv2's evaluator, against its numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from unirae.metrics.frechet import frechet_distance
from unirae.metrics.inception_score import inception_score
from unirae.metrics.mind import mind
from unirae.metrics.moments import moments_of

GOLDEN = Path(__file__).parents[1] / "golden/raev2_metrics.safetensors"


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(GOLDEN, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["config"])  # noqa: SIM118


@pytest.mark.parametrize(
    ("name", "reference_count", "options"),
    [
        ("mind", 80, {}),
        ("mind_equal_n", 50, {}),
        ("mind_100_projections_seed_7", 80, {"projections": 100, "seed": 7}),
    ],
)
def test_mind_is_raev2s(golden, name, reference_count, options):
    tensors, _ = golden
    reference = tensors["features_reference"][:reference_count]
    found = mind(tensors["features_generated"], reference, **options).value
    assert found == pytest.approx(float(tensors[name]), rel=1e-6)


def test_the_frechet_distance_is_raev2s(golden):
    tensors, _ = golden
    sides = (tensors["features_generated"], tensors["features_reference"])
    assert frechet_distance(*map(moments_of, sides)) == pytest.approx(float(tensors["frechet"]), rel=1e-6)


def test_the_inception_score_is_raev2s_in_its_order_and_without_the_rest_of_the_parts(golden):
    """Its evaluator permutes with seed 0, takes ten parts of ⌊n/10⌋, and adds 1e-10 in the logarithms."""
    tensors, _ = golden
    logits = tensors["logits"]
    theirs = logits[torch.from_numpy(np.random.RandomState(0).permutation(len(logits)))][:100]
    wanted = pytest.approx(float(tensors["inception_score"]), rel=1e-6)
    assert inception_score(theirs, order="file").value == wanted
    assert inception_score(logits).value != wanted


def test_mind_of_equal_sets_is_zero_and_of_a_shift_three_times_its_square():
    rows = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    assert mind(rows, rows.flip(0)).value == pytest.approx(0, abs=1e-12)
    shift = torch.tensor([2.0, 0, 0, 0, 0, 0, 0, 1.0])
    assert mind(rows + shift, rows, projections=20_000).value == pytest.approx(3 * 5.0, rel=0.03)


def test_mind_does_not_depend_on_the_order_of_equal_sets():
    first, second = torch.randn(2, 60, 5, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    assert mind(first[order], second).value == pytest.approx(mind(first, second).value, rel=1e-12)


def test_mind_needs_images():
    with pytest.raises(ValueError, match="MIND needs images on both sides, got 0 and 3"):
        mind(torch.zeros(0, 4), torch.zeros(3, 4))
