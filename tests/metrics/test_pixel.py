"""PSNR, SSIM and their streaming means against torchmetrics and by hand."""

import pytest
import torch

from unirae.metrics.pixel import PSNR_CEILING_DB, mean_distance, mean_psnr, mean_ssim, psnr, ssim


def _pair(count=6, size=(24, 31), noise=20.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 3, 5, 5, generator=generator) * 255
    a = torch.nn.functional.interpolate(low, size, mode="bilinear")
    b = a + noise * torch.randn(a.shape, generator=generator)
    return a.round().to(torch.uint8), b.clamp(0, 255).round().to(torch.uint8)


def test_psnr_by_hand():
    a = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    b = a.clone()
    b[0] += 51  # a fifth of the range: MSE 1/25
    b[1] = 255
    torch.testing.assert_close(psnr(a, b), torch.tensor([13.979400086720377, 0.0]).double())
    assert psnr(a, a).tolist() == [PSNR_CEILING_DB] * 2


def test_psnr_and_ssim_equal_torchmetrics():
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    a, b = _pair()
    x, y = a.double() / 255, b.double() / 255
    theirs = peak_signal_noise_ratio(y, x, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(a, b), theirs.double(), rtol=1e-6, atol=0)
    theirs = structural_similarity_index_measure(y, x, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(a, b), theirs.double(), rtol=2e-5, atol=0)


def test_ssim_of_equal_images_is_one_and_small_ones_are_refused():
    a, _ = _pair()
    torch.testing.assert_close(ssim(a, a), torch.ones(6).double(), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="11×11"):
        ssim(a[..., :10], a[..., :10])


@pytest.mark.parametrize("batch", [1, 4])
def test_streaming_means_are_means_of_single_scores(batch):
    a, b = _pair()
    distance = mean_distance("l1", lambda x, y: (x - y).abs().mean((1, 2, 3)), {})
    metrics = {"psnr": mean_psnr(), "ssim": mean_ssim(), "l1": distance}
    for metric in metrics.values():
        for start in range(0, 6, batch):
            metric.update(a[start : start + batch], b[start : start + batch])
    scores = {name: metric.compute().value for name, metric in metrics.items()}
    assert scores["psnr"] == pytest.approx(float(psnr(a, b).mean()), rel=1e-12)
    assert scores["ssim"] == pytest.approx(float(ssim(a, b).mean()), rel=1e-6)
    assert scores["l1"] == pytest.approx(float((a.double() - b.double()).abs().mean() / 255), rel=1e-6)


def test_a_mean_of_nothing_is_refused():
    metric = mean_psnr()
    metric.update(*_pair())
    metric.reset()
    with pytest.raises(ValueError, match="no images"):
        metric.compute()
