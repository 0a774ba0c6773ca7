"""What stands beside a score, on every path."""

import numpy as np
import pytest
import torch

from tiny_latents import pictures
from toy_extractors import ToyInception, colour_metric
from unirae.core.errors import ConfigError
from unirae.evaluation.references.reference import reference_from_data
from unirae.evaluation.references.reference_file import read_reference
from unirae.evaluation.scores.generation import evaluate_generation
from unirae.evaluation.scores.metric_set import MetricSources, build_reconstruction_metrics
from unirae.evaluation.scores.reconstruction import evaluate_reconstruction
from unirae.evaluation.scores.record import write_scores
from unirae.metrics.set_metrics import inception_metrics, needs


def made(data):
    return lambda numbers: torch.stack([data[int(i) % len(data)]["image"] for i in numbers])


def test_samples_against_few_and_copied_images():
    data, metrics = pictures(9), inception_metrics(["fid"], ToyInception())
    reference = reference_from_data(data, needs(metrics, of_reference=True), purpose="generation")
    said = evaluate_generation(made(data), 12, metrics=metrics, reference=reference, batch_size=4).warnings
    assert any("the reference: 9 images are fewer than the 12 features" in text for text in said)
    assert any("the samples: 3 images of 12 equal another one, pixel by pixel" in text for text in said)
    assert any("12 of the 12 images stand in the reference, too" in text for text in said)


def test_images_that_could_not_be_read():
    metrics = inception_metrics(["fid"], ToyInception())
    for bad, counted in (((3, 7), ["the reference: 2 images could not be read"]), ((), [])):
        reference = reference_from_data(
            pictures(20, bad=bad), needs(metrics, of_reference=True), purpose="generation"
        )
        said = evaluate_generation(
            made(pictures(20)), 20, metrics=metrics, reference=reference, batch_size=4
        ).warnings
        assert [text[:41] for text in said if "could not be read" in text] == counted

    class Identity:
        def reconstruct(self, images):
            return images

    psnr = build_reconstruction_metrics(["psnr"], MetricSources())
    result = evaluate_reconstruction(Identity(), pictures(8, bad=(5,)), metrics=psnr, batch_size=4)
    assert [text[:46] for text in result.warnings if "read" in text] == [
        "the reconstructions: 1 image could not be read"
    ]


def test_a_published_file_and_weights_that_are_not(tmp_path):
    np.savez(tmp_path / "adm.npz", mu=np.zeros(12), sigma=np.eye(12))
    extractor = ToyInception()
    extractor.identity = {"sha256": "toy", "published_weights": False}
    metrics, reference = inception_metrics(["fid"], extractor), read_reference(tmp_path / "adm.npz")
    said = evaluate_generation(
        made(pictures(20)), 20, metrics=metrics, reference=reference, batch_size=4
    ).warnings
    assert any("does not say which network made it" in text for text in said)
    assert any("does not say of which size" in text for text in said)


def test_the_size_of_a_file_with_images_is_known(tmp_path):
    np.savez(tmp_path / "adm.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8), mu=np.zeros(12), sigma=np.eye(12))
    metrics = inception_metrics(["fid"], ToyInception())
    with pytest.raises(ConfigError, match="32×32 px, the reference was made of 8×8 px"):
        evaluate_generation(
            made(pictures(20)),
            20,
            metrics=metrics,
            reference=read_reference(tmp_path / "adm.npz"),
            batch_size=4,
        )


def test_reconstructions_are_never_quoted_as_plain_fid(tmp_path):
    class Identity:
        def reconstruct(self, images):
            return images

    metrics = build_reconstruction_metrics(["fd"], MetricSources(encoder=colour_metric().extractor))
    data = pictures(8, transform=None)
    result = evaluate_reconstruction(Identity(), data, metrics=metrics, batch_size=4)
    assert list(result.scores) == ["rfd_colour"]
    assert list(result.labelled()) == ["rfd_colour@8"]
    assert '"rfd_colour": "rfd_colour@8"' in write_scores(tmp_path / "r.json", result).read_text()


def test_equal_reconstructions_are_a_caution_of_a_network_and_none_of_a_baseline():
    """The mean colours of two pictures may be the same, as in the demo; a decoder's pictures should not be."""

    class Grey(torch.nn.Module):
        def reconstruct(self, images):
            return torch.full_like(images, 0.5)

    class Baseline:
        reconstruct = Grey.reconstruct

    metrics = build_reconstruction_metrics(["fd"], MetricSources(encoder=colour_metric().extractor))

    def said(reconstructor):
        result = evaluate_reconstruction(
            reconstructor, pictures(8, transform=None), metrics=metrics, batch_size=4
        )
        assert result.settings["images"]["duplicates"] == 7
        return [line for line in result.warnings if "pixel by pixel" in line]

    assert said(Grey()) == [
        "the reconstructions: 7 images of 8 equal another one, pixel by pixel, so that the scores count that picture "
        "more than once"
    ]
    assert said(Baseline()) == []


def test_a_score_without_reference_needs_none():
    metrics = inception_metrics(["is"], ToyInception())
    result = evaluate_generation(made(pictures(20)), 20, metrics=metrics, reference=None, batch_size=4)
    assert result.settings["reference"] is None
    assert result.scores["is"] >= 1
