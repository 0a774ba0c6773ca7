"""From names to metrics."""

import pytest
import torch

from toy_extractors import MeanColour
from unirae.core.errors import ConfigError, WeightsError
from unirae.evaluation.scores.metric_set import MetricSources, build_reconstruction_metrics, build_set_metrics


def test_scores_of_reconstructions_have_their_usual_names():
    metrics = build_reconstruction_metrics(["ssim", "rfd", "psnr"], MetricSources(encoder=MeanColour()))
    assert [metric.name for metric in metrics.of_pairs] == ["ssim", "psnr"]
    assert metrics.names == {"fd_colour": "rfd_colour"}


@pytest.mark.parametrize(("one", "other"), [("rfd", "fd"), ("rfid", "fid")])
def test_two_spellings_of_a_reconstructions_score_are_recorded_under_one_name(one, other):
    """Else two results of one score have none in common."""
    sources = MetricSources(encoder=MeanColour(), inception_weights="random")
    names = [build_reconstruction_metrics([name, "mind_fd", "kid"], sources).names for name in (one, other)]
    assert names[0] == names[1]
    assert {name.split("_")[0] for name in names[0].values()} == {one, "mind", "kid"}


@pytest.mark.parametrize("names", [["psnr", "fidd"], ["psnr", "psnr"], [], ["rfd"], ["rfid", "fid"]])
def test_unknown_doubled_or_impossible_names(names):
    with pytest.raises(ConfigError, match=r"psnr|encoder|the same here"):
        build_reconstruction_metrics(names, MetricSources())


def test_pair_scores_are_none_of_a_set():
    with pytest.raises(ConfigError, match=r"give some of fid, sfid, is.*each once; unknown: psnr"):
        build_set_metrics(["psnr"], MetricSources())


def test_a_score_of_reconstructions_is_not_one_of_other_images():
    with pytest.raises(ConfigError, match=r"each once; unknown: rfd \(fd, of reconstructions alone\), fidd"):
        build_set_metrics(["rfd", "fidd"], MetricSources())


def test_a_missing_weight_file_names_the_users_option(tmp_path):
    with pytest.raises(WeightsError, match="set inception_weights to"):
        build_set_metrics(["fid"], MetricSources(inception_weights=tmp_path / "none.pth"))


def test_the_settings_of_kid_say_that_its_subsets_may_be_smaller():
    (metric,) = build_set_metrics(["kid"], MetricSources(inception_weights="random"))
    assert (metric.settings["subset_size_at_most"], "subset_size" in metric.settings) == (1000, False)


def test_random_weights_stand_in_the_names():
    metrics = build_set_metrics(["fid", "sfid", "precision"], MetricSources(inception_weights="random"))
    labels = {name: label for metric in metrics for name, label in metric.labels.items()}
    assert labels == {
        "fid": "fid_random_inception",
        "sfid": "sfid_random_inception",
        "precision": "precision_random_inception",
    }
    (metric,) = build_reconstruction_metrics(["lpips"], MetricSources(lpips_weights="random")).of_pairs
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    metric.update(images, images)
    assert metric.name == "lpips_random"
    assert metric.compute().value == pytest.approx(0.0, abs=1e-6)
