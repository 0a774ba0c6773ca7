"""Scores of stored images: the same for every batch size and process count, each refused where it means nothing."""

import numpy as np
import pytest
import torch
from PIL import Image

from processes import run_in_processes
from toy_extractors import MeanColour, ToyInception
from unirae.core.errors import ConfigError, DataError
from unirae.data.source import Sample
from unirae.data.stored import StoredImages
from unirae.evaluation.references.reference import reference_from_data
from unirae.evaluation.scores.stored import Reading, score_images, score_pairs
from unirae.metrics.extractors import ModuleExtractor
from unirae.metrics.pixel import mean_psnr, mean_ssim
from unirae.metrics.resampling import Confidence
from unirae.metrics.set_metrics import INCEPTION_METRICS, encoder_metric, inception_metrics, needs


class Noise:
    """Pictures of 16 px from a seed."""

    name = "noise"
    class_names: tuple[str, ...] = ()
    num_classes = 0

    def __init__(self, count: int, *, seed: int) -> None:
        random = np.random.RandomState(seed)
        colours = random.uniform(0, 200, (count, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
        self._pixels = (colours + random.uniform(0, 55, colours.shape) * (1 + seed / 4)).clip(0, 255)
        self.fingerprint = {"source": self.name, "seed": seed, "count": count}

    def content(self, *, anew: bool = False) -> dict:
        return self.fingerprint

    def name_of(self, index: int) -> None:
        return None

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> Sample:
        return Sample(Image.fromarray(self._pixels[index].astype(np.uint8)), 0)


class Lines(torch.nn.Module):
    """A user's module: its random weights are hashed; the mean of each row of the picture goes in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(48, 9, generator=torch.Generator().manual_seed(1)) / 7)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tanh(images.float().mean(3).flatten(1) / 64 @ self.weight)


def pictures(count, seed=0):
    return StoredImages(Noise(count, seed=seed))


def every_metric(confidence=None):
    users = ModuleExtractor(module=Lines().eval().requires_grad_(False), name="lines", width=9)
    return [
        *inception_metrics(INCEPTION_METRICS, ToyInception(), confidence=confidence),
        encoder_metric(users, confidence=confidence),
    ]


def score_everything(count, others, batch_size, confidence=None):
    """Of ``count`` images against ``others``; plain values, since they come from another process."""
    torch.set_num_threads(1)
    metrics = every_metric(confidence)
    reference = reference_from_data(
        pictures(others, seed=1),
        needs(metrics, of_reference=True),
        purpose="generation",
        batch_size=batch_size,
    )
    reading = Reading(batch_size=batch_size)
    result = score_images(pictures(count), metrics=metrics, reference=reference, reading=reading)
    of_pairs = score_pairs(
        pictures(count),
        pictures(count, seed=1),
        of_pairs=[mean_psnr(), mean_ssim()],
        metrics=metrics[-1:],
        reading=reading,
    )
    errors = {name: estimate.standard_error for name, estimate in result.estimates.items()}
    return {
        "scores": result.scores,
        "errors": {name: error for name, error in errors.items() if error is not None},
        "pairs": of_pairs.scores,
        "settings": result.settings,
        "warnings": result.warnings,
    }


def assert_same(found, expected):
    for group in ("scores", "errors", "pairs"):
        assert found[group] == pytest.approx(expected[group], rel=1e-6, abs=0), group
    assert found["settings"] == expected["settings"]
    assert found["warnings"] == expected["warnings"]


@pytest.fixture(scope="module")
def expected():
    return score_everything(500, 400, 32)


def test_every_score_is_there(expected):
    assert set(expected["scores"]) == {*INCEPTION_METRICS, "fd_lines"}
    assert set(expected["pairs"]) == {"psnr", "ssim", "fd_lines"}
    assert all(0 < value < np.inf for value in expected["scores"].values())
    # of the Fréchet distances on request alone, and of the kernel distance of far more images than a subset has
    assert set(expected["errors"]) == {*INCEPTION_METRICS} - {"fid", "sfid", "kid", "mind"}


@pytest.mark.parametrize("batch_size", [7, 500])
def test_the_batch_size_does_not_matter(expected, batch_size):
    assert_same(score_everything(500, 400, batch_size), expected)


COUNTS = ((500, 400), (40, 12), (12, 40))
"""Images and others. Of 12 images the second process has none."""


def score_all_counts():
    return [score_everything(count, others, 7) for count, others in COUNTS]


def test_two_processes_give_the_same_scores(expected):
    all_expected = [expected, *(score_everything(count, others, 32) for count, others in COUNTS[1:])]
    for of_process in run_in_processes(score_all_counts):
        for found, wanted in zip(of_process, all_expected, strict=True):
            assert_same(found, wanted)


def test_confidence_keeps_the_score(expected):
    found = score_everything(500, 400, 500, Confidence(method="bootstrap", resamples=5))
    assert found["scores"] == pytest.approx(expected["scores"], rel=1e-6)
    assert {"fid", "sfid", "fd_lines"} <= set(found["errors"])


def test_a_subset_is_the_same_for_both_of_a_pair():
    images = pictures(20)
    result = score_pairs(
        images, images, of_pairs=[mean_psnr()], reading=Reading(num_samples=7, seed=3, batch_size=2)
    )
    assert (result.count, result.scores["psnr"]) == (7, 100.0)
    assert result.settings["images"]["subset_seed"] == result.settings["reference"]["subset_seed"] == 3


@pytest.mark.parametrize(
    ("names", "count", "message"),
    [
        (["is"], 9, "9 images are too few for is, which needs at least 10"),
        (["precision"], 5, "5 images are too few for precision, which needs at least 6"),
        (["fid"], 1, "1 image is too few for fid, which needs at least 2"),
        (["kid"], 1, "1 image is too few for kid, which needs at least 2"),
    ],
)
def test_too_few_images_are_an_error_of_the_data(names, count, message):
    metrics = inception_metrics(names, ToyInception())
    wanted = needs(metrics, of_reference=True)
    reference = reference_from_data(pictures(30, seed=1), wanted, purpose="generation")
    with pytest.raises(DataError, match=message):
        score_images(pictures(count), metrics=metrics, reference=reference, reading=Reading())


def test_a_reference_must_have_what_is_needed():
    moments = reference_from_data(
        pictures(30, seed=1),
        needs([encoder_metric(MeanColour())], of_reference=True),
        purpose="generation",
    )
    with pytest.raises(ConfigError, match="holds statistics of colour/pooled, but fid needs those of incep"):
        score_images(
            pictures(20),
            metrics=inception_metrics(["fid"], ToyInception()),
            reference=moments,
            reading=Reading(),
        )


def test_progress_reaches_the_end():
    done = []
    reading = Reading(batch_size=3, progress=lambda *now: done.append(now))
    score_images(
        pictures(100), metrics=inception_metrics(["is"], ToyInception()), reference=None, reading=reading
    )
    assert done == [(64, 100), (100, 100)]
