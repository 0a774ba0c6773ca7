"""Latent statistics: exact, of every view, and the same for any order, batch size and number of processes."""

import json

import numpy as np
import pytest
import torch

from processes import run_in_processes
from tiny_latents import SHAPE, pictures, tiny_rae
from unirae.core.errors import ConfigError, DataError, NonFiniteError
from unirae.data.sample_key import SampleKey
from unirae.data.transforms import AdmCenterCrop, AdmCropFlip, ScaleShift
from unirae.evaluation.latents.statistics import compute_latent_stats
from unirae.evaluation.passes.reading import choose_indices
from unirae.models.latent_stats import LatentStats


def all_tokens(rae, data, indices=None):
    """Tokens of the crops and of their mirror images, image by image: float64, "view n c h w"."""
    crop = AdmCenterCrop(size=32)
    images = [crop(data.source[i].image) for i in (range(len(data)) if indices is None else indices)]
    plain = torch.stack([rae.tokens(image[None] / 255)[0] for image in images])
    mirrored = torch.stack([rae.tokens(image.flip(-1)[None] / 255)[0] for image in images])
    return torch.stack([plain, mirrored]).double().numpy()


def close(stats: LatentStats, mean, var):
    np.testing.assert_allclose(stats.mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stats.var, var, rtol=1e-5, atol=1e-7)


class Shuffled:
    """The same pictures in another order."""

    def __init__(self, source):
        self._source = source
        self._order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0)).tolist()
        self.name, self.fingerprint = source.name, source.fingerprint
        self.content = source.content

    def __len__(self):
        return len(self._order)

    def __getitem__(self, index):
        return self._source[self._order[index]]


def test_they_equal_numpy_over_both_views():
    rae, data = tiny_rae(), pictures()
    tokens = all_tokens(rae, data).reshape(-1, *SHAPE)
    stats = compute_latent_stats(rae, data)
    close(stats, tokens.mean(0), tokens.var(0))
    assert stats.info["count"] == 45


def test_views_count_by_their_probability():
    rae = tiny_rae()
    data = pictures(transform=AdmCropFlip(size=32, flip_probability=0.25))
    plain, mirrored = all_tokens(rae, data)
    mean = 0.75 * plain.mean(0) + 0.25 * mirrored.mean(0)
    var = 0.75 * ((plain - mean) ** 2).mean(0) + 0.25 * ((mirrored - mean) ** 2).mean(0)
    close(compute_latent_stats(rae, data), mean, var)
    never = pictures(transform=AdmCropFlip(size=32, flip_probability=0))
    close(compute_latent_stats(rae, never), plain.mean(0), plain.var(0))
    without = pictures(transform=AdmCenterCrop(size=32))
    close(compute_latent_stats(rae, without), plain.mean(0), plain.var(0))


def test_a_random_transform_is_drawn_once_per_image():
    rae, data = tiny_rae(), pictures(transform=ScaleShift(size=32), seed=3)
    images = torch.stack([data[SampleKey(i, 0)]["image"] for i in range(45)])
    tokens = torch.cat([rae.tokens(image[None] / 255) for image in images]).double().numpy()
    stats = compute_latent_stats(rae, data)
    close(stats, tokens.mean(0), tokens.var(0))
    scales = {"size": [32, 32], "min_scale": 0.85, "max_scale": 1.1, "max_shift": 0.08}
    assert stats.info["transform"] == {"name": "ScaleShift", **scales, "drawn_with_seed": 3}


def test_per_channel_pools_over_positions():
    rae, data = tiny_rae(), pictures()
    tokens = all_tokens(rae, data).reshape(-1, *SHAPE)
    stats = compute_latent_stats(rae, data, per="channel")
    assert stats.shape == (16, 1, 1)
    close(stats, tokens.mean((0, 2, 3))[:, None, None], tokens.var((0, 2, 3))[:, None, None])
    latents = tiny_rae(stats=stats).encode(torch.rand(2, 3, 32, 32))
    assert latents.shape == (2, *SHAPE)


def identical(stats: LatentStats, expected: LatentStats):
    """Up to one rounding to float32."""
    torch.testing.assert_close(stats.mean, expected.mean, rtol=2e-7, atol=1e-8)
    torch.testing.assert_close(stats.var, expected.var, rtol=2e-7, atol=1e-8)
    assert stats.info == expected.info


@pytest.mark.parametrize("batch_size", [1, 7, 45])
def test_neither_batch_size_nor_order_matters(batch_size):
    rae, data = tiny_rae(), pictures()
    expected = compute_latent_stats(rae, data, batch_size=32)
    identical(compute_latent_stats(rae, data, batch_size=batch_size, num_workers=batch_size % 2), expected)
    data.source = Shuffled(data.source)
    identical(compute_latent_stats(rae, data, batch_size=batch_size), expected)


def in_process():
    stats = compute_latent_stats(tiny_rae(), pictures(), batch_size=4)
    return {"mean": stats.mean, "var": stats.var, "info": stats.info}


def test_two_processes_equal_one():
    expected = compute_latent_stats(tiny_rae(), pictures())
    for result in run_in_processes(in_process):
        identical(LatentStats(**result), expected)


def test_normalised_latents_have_mean_0_and_variance_1_and_the_way_back():
    rae, data = tiny_rae(), pictures()
    stats = compute_latent_stats(rae, data)
    tokens = torch.from_numpy(all_tokens(rae, data)).reshape(-1, *SHAPE)
    latents = stats.normalise(tokens)
    torch.testing.assert_close(latents.mean(0), torch.zeros(SHAPE), rtol=0, atol=1e-4)
    expected = stats.var / (stats.var + 1e-5)
    torch.testing.assert_close(latents.var(0, unbiased=False), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(stats.denormalise(latents), tokens.float(), rtol=1e-5, atol=1e-6)


def test_statistics_that_the_autoencoder_has_play_no_part():
    data = pictures()
    once = compute_latent_stats(tiny_rae(), data)
    identical(compute_latent_stats(tiny_rae(stats=once), data), once)


def test_a_subset_and_a_bad_image_are_recorded():
    rae, data = tiny_rae(), pictures(bad=(3,))
    stats = compute_latent_stats(rae, data, num_samples=40, seed=1, settings={"checkpoint": "c.ckpt"})
    indices = choose_indices(45, 40, 1)
    shown = [4 if i == 3 else i for i in indices]
    tokens = all_tokens(rae, data, shown).reshape(-1, *SHAPE)
    close(stats, tokens.mean(0), tokens.var(0))
    info = json.loads(json.dumps(stats.info))
    assert info["unreadable_images_replaced"] == (3 in indices)
    assert (info["count"], info["count_available"], info["subset_seed"]) == (40, 45, 1)
    assert info["encoder"]["sha256"] == rae.encoder.identity.sha256 != ""
    assert info["transform"] == {
        "name": "AdmCropFlip",
        "size": [32, 32],
        "views": 2,
        "view_weights": [0.5, 0.5],
    }
    assert (info["data"], info["fingerprint"]["count"], info["checkpoint"]) == ("synthetic", 45, "c.ckpt")
    assert (info["per"], info["precision"], info["encoder_input_size"]) == ("element", "fp32", [32, 32])


def test_bf16_is_close_and_progress_counts_images():
    seen = []
    exact = compute_latent_stats(tiny_rae(), pictures())
    near = compute_latent_stats(
        tiny_rae(), pictures(), precision="bf16", progress=lambda done, total: seen.append((done, total))
    )
    assert near.mean is not None
    assert 0 < float((near.mean - exact.mean).norm() / exact.mean.norm()) < 0.02
    assert seen == [(16, 45), (32, 45), (45, 45)]


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="at least 2 images"):
        compute_latent_stats(tiny_rae(), pictures(1))
    with pytest.raises(ConfigError, match="element or channel"):
        compute_latent_stats(tiny_rae(), pictures(), per="pixel")
    broken = tiny_rae()
    next(broken.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"not finite \(256 of 256"):
        compute_latent_stats(broken, pictures())
