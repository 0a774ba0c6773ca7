"""FDr6, against the numbers of RAEv2's evaluator."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from toy_extractors import Brightness, MeanColour
from unirae.metrics.frechet_ratio import SPACES, PublishedMoments, frechet_ratio_metrics
from unirae.metrics.moments import Moments
from unirae.metrics.set_metrics import compute, needs
from unirae.metrics.statistics import SetStatistics, statistics_key

GOLDEN = Path(__file__).parents[1] / "golden/raev2_metrics.safetensors"


def extractors(prefix="fdr_"):
    found = {}
    for space in SPACES:
        found[space.name] = Brightness()
        found[space.name].name = "inception" if space.model is None else f"{prefix}{space.name}"
    return found


def moments(mean: float) -> Moments:
    """Of one feature; two of them have the squared difference of their means as their distance."""
    one = torch.ones(1, dtype=torch.float64)
    return Moments(count=9, mean=mean * one, covariance=one[None])


def statistics(means):
    keys = [statistics_key(extractor.name, "pooled") for extractor in extractors().values()]
    return {key: SetStatistics(count=9, moments=moments(mean)) for key, mean in zip(keys, means, strict=True)}


def published(means):
    return {
        space.name: PublishedMoments(moments=moments(mean), identity={"sha256": space.name})
        for space, mean in zip(SPACES, means, strict=True)
    }


@pytest.fixture(scope="module")
def golden():
    with safe_open(GOLDEN, "pt") as file:
        config = json.loads(file.metadata()["config"])
        return {key: file.get_tensor(key) for key in ("raw_fd", "fdr", "fdr6")}, config


def test_the_spaces_and_their_constants_are_raev2s(golden):
    _, config = golden
    constants = {name.removesuffix("_cls"): value for name, value in config["norm_const"].items()}
    assert [space.name for space in SPACES] == [name.removesuffix("_cls") for name in config["order"]]
    assert {space.name: space.validation_distance for space in SPACES} == constants


@pytest.mark.parametrize("fixed", [False, True])
def test_ratios_and_mean_are_raev2s(golden, fixed):
    tensors, _ = golden
    roots, zeros = tensors["raw_fd"].sqrt().tolist(), [0.0] * len(SPACES)
    metrics = frechet_ratio_metrics(extractors(), published=published(zeros) if fixed else None)
    found = compute(metrics, statistics(roots), {} if fixed else statistics(zeros))
    names = [f"fdr_{space.name}" for space in SPACES]
    assert list(found) == [*names, "fdr6"]
    assert [found[name].value for name in names] == pytest.approx(tensors["fdr"].tolist(), rel=1e-9)
    assert found["fdr6"].value == pytest.approx(float(tensors["fdr6"]), rel=1e-9)
    distances = [found[name].details["frechet_distance"] for name in names]
    assert distances == pytest.approx(tensors["raw_fd"].tolist(), rel=1e-9)


def test_published_moments_need_no_reference():
    of_reference = frechet_ratio_metrics(extractors())
    of_file = frechet_ratio_metrics(extractors(), published=published([0.0] * 6))
    assert len(needs(of_reference, of_reference=True)) == 6
    assert needs(of_file, of_reference=True) == []
    assert len(needs(of_file, of_reference=False)) == 6
    assert all(metric.fits_gaussian for metric in (*of_reference, *of_file))
    assert of_file[3].settings["compared_with"] == {"sha256": "mae"}


def test_random_weights_stand_in_the_names():
    metrics = frechet_ratio_metrics(extractors("fdr_random_"))
    assert {metric.mean for metric in metrics} == {"fdr6_random"}
    assert [metric.labels["fdr6"] for metric in metrics][:2] == ["fdr_inception", "fdr_random_convnext"]
    one = extractors()
    one["inception"].name = "random_inception"
    (first, *_) = frechet_ratio_metrics(one)
    assert (first.labels["fdr6"], first.mean) == ("fdr_random_inception", "fdr6_random")


def test_there_is_no_mean_of_five():
    five = {name: extractor for name, extractor in extractors().items() if name != "mae"}
    with pytest.raises(ValueError, match="mean over 6 spaces and lacks the network of mae"):
        frechet_ratio_metrics(five)
    some = {name: found for name, found in published([0.0] * 6).items() if name not in ("clip", "siglip")}
    with pytest.raises(ValueError, match="lacks reference moments of siglip, reference moments of clip"):
        frechet_ratio_metrics(extractors(), published=some)


def test_moments_of_another_width_are_refused():
    other = {**extractors(), "clip": MeanColour()}
    with pytest.raises(ValueError, match="moments of clip are of 1 features, but its network gives 3"):
        frechet_ratio_metrics(other, published=published([0.0] * 6))
