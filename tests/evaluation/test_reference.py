"""References: of data, the same for every batch size; of files, as they are or with a clear refusal."""

import numpy as np
import pytest
import torch

from tiny_latents import pictures
from unirae.core.errors import ConfigError, DataError
from unirae.evaluation.reference import reference_from_npz, references_from_data


class MeanColour:
    """Three features: the mean of each channel."""

    name, width, identity = "colour", 3, {"sha256": "0"}

    def __call__(self, images):
        return images.float().mean((2, 3))


class Brightness(MeanColour):
    name, width = "brightness", 1

    def __call__(self, images):
        return images.float().mean((1, 2, 3))[:, None]


def test_moments_of_data_equal_numpys():
    data = pictures(21)
    colour, brightness = references_from_data(data, [MeanColour(), Brightness()], batch_size=4)
    features = np.stack([data[i]["image"].double().mean((1, 2)).numpy() for i in range(21)])
    np.testing.assert_allclose(colour.moments.mean, features.mean(0), rtol=1e-6)
    np.testing.assert_allclose(colour.moments.covariance, np.cov(features.T), rtol=1e-5)
    np.testing.assert_allclose(brightness.moments.mean, features.mean(), rtol=1e-6)
    assert colour.identity["count"] == colour.moments.count == 21
    assert colour.identity["fingerprint"]["split"] == "train"


def test_the_batch_size_does_not_matter():
    data, done = pictures(21), []
    by_4, by_21 = (references_from_data(data, [MeanColour()], batch_size=size)[0].moments for size in (4, 21))
    torch.testing.assert_close(by_4.covariance, by_21.covariance, rtol=1e-12, atol=0)
    references_from_data(data, [MeanColour()], progress=lambda *now: done.append(now))
    assert done[-1] == (21, 21)


def test_a_subset_and_replaced_images_are_recorded():
    identity = references_from_data(pictures(21, bad=(3, 4)), [MeanColour()])[0].identity
    assert identity["unreadable_images_replaced"] == 2
    identity = references_from_data(pictures(21), [MeanColour()], num_samples=6, seed=2)[0].identity
    assert (identity["count"], identity["count_available"], identity["subset_seed"]) == (6, 21, 2)
    with pytest.raises(DataError, match="at least 2 images"):
        references_from_data(pictures(21), [MeanColour()], num_samples=1)


def test_a_file_as_it_is(tmp_path):
    mean, covariance = np.arange(3, dtype=np.float32), np.diag([1.0, 2.0, 3.0])
    images = np.zeros((2, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "adm.npz", arr_0=images, mu=mean, sigma=covariance, mu_s=mean, sigma_s=covariance)
    reference = reference_from_npz(tmp_path / "adm.npz", MeanColour())
    assert reference.moments.mean.dtype == torch.float64
    assert reference.moments.mean.tolist() == [0, 1, 2]
    assert reference.moments.covariance.diagonal().tolist() == [1, 2, 3]
    assert reference.identity["file"] == "adm.npz"
    assert len(reference.identity["sha256"]) == 64


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        (
            {"arr_0": np.zeros((2, 4, 4, 3))},
            DataError,
            "holds arr_0, but no mu and sigma. It seems to hold images",
        ),
        ({"mu": np.zeros(3)}, DataError, "holds mu, but no mu and sigma"),
        ({"mu": np.zeros(2048), "sigma": np.eye(2048)}, ConfigError, "2048 numbers, colour gives 3"),
        ({"mu": np.zeros(3), "sigma": np.ones(3)}, DataError, "not a mean and its covariance"),
        ({"mu": np.zeros((1, 3)), "sigma": np.eye(1)}, DataError, "not a mean and its covariance"),
        ({"mu": np.array([0, 1, np.nan]), "sigma": np.eye(3)}, DataError, "not finite"),
        ({"mu": np.array(["a", "b"]), "sigma": np.eye(2)}, DataError, "cannot be read"),
        ({"mu": np.array([{}]), "sigma": np.eye(1)}, DataError, "cannot be read"),
    ],
)
def test_wrong_files(tmp_path, arrays, error, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(error, match=message):
        reference_from_npz(tmp_path / "wrong.npz", MeanColour())


def test_no_file_and_no_npz(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        reference_from_npz(tmp_path / "absent.npz", MeanColour())
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DataError, match="not an npz file"):
        reference_from_npz(tmp_path / "cut.npz", MeanColour())
