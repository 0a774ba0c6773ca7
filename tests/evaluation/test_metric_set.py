"""From names to metrics."""

import pytest
import torch

from unirae.core.errors import ConfigError, WeightsError
from unirae.evaluation.metric_set import build_reconstruction_metrics


def test_they_come_in_the_order_of_the_names():
    assert [metric.name for metric in build_reconstruction_metrics(["ssim", "psnr"])] == ["ssim", "psnr"]


@pytest.mark.parametrize("names", [["psnr", "fid"], ["psnr", "psnr"], [], ["rfd"]])
def test_unknown_doubled_or_impossible_names(names):
    with pytest.raises(ConfigError, match=r"psnr|encoder"):
        build_reconstruction_metrics(names)


def test_a_missing_weight_file_names_the_users_option(tmp_path):
    with pytest.raises(WeightsError, match="--inception_weights"):
        build_reconstruction_metrics(["rfid"], inception_weights=tmp_path / "none.pth", options="--")


def test_random_lpips_says_so_in_its_name():
    (metric,) = build_reconstruction_metrics(["lpips"], lpips_weights="random")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    metric.update(images, images)
    assert metric.compute() == {"lpips_random": pytest.approx(0.0, abs=1e-6)}
