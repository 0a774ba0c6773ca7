"""Scores equal torch-fidelity's on the same images and the same weights, from files to figures; ADM's by definition."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from unirae.app.evaluate import Options, run
from unirae.app.inputs.images import open_images
from unirae.metrics.frechet import frechet_distance
from unirae.metrics.inception import SPATIAL, InceptionExtractor, random_inception_state
from unirae.metrics.inception_score import inception_score
from unirae.metrics.kernel import kernel_distance
from unirae.metrics.manifold import manifold_scores, squared_radii
from unirae.metrics.moments import moments_of

COUNTS = {"images": 16, "reference": 20}
NAMES = "fid,is,kid,precision,recall,sfid,density,coverage"


def pictures(count, seed, noise):
    """Coarse colours with noise: the two sets differ, and are not far apart."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, (48, 48), mode="bicubic").clamp(0, 1)
    mixed = smooth * (1 - noise) + noise * torch.rand(count, 3, 48, 48, generator=generator)
    return (mixed * 255).round().byte()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("parity")
    torch.save(random_inception_state(), root / "weights.pth")
    for (name, count), seed in zip(COUNTS.items(), (1, 2), strict=True):
        (root / name).mkdir()
        for i, image in enumerate(pictures(count, seed, 0.1 * seed)):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / name / f"{i:03d}.png")
    return root


@pytest.fixture(scope="module")
def ours(files):
    options = {"images": str(files / "images"), "reference": str(files / "reference"), "metrics": NAMES}
    options |= {"inception_weights": str(files / "weights.pth"), "device": "cpu", "num_threads": 1}
    return run(Options(**options, output=files / "result.json", cache=False)).scores


@pytest.fixture(scope="module")
def theirs(files):
    import torch_fidelity

    return torch_fidelity.calculate_metrics(
        input1=str(files / "images"),
        input2=str(files / "reference"),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(files / "weights.pth"),
        **dict.fromkeys(("isc", "fid", "kid", "prc", "save_cpu_ram"), True),
        **dict.fromkeys(("cuda", "cache", "verbose"), False),
        kid_subset_size=16,
    )


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("fid", "frechet_inception_distance"),
        ("is", "inception_score_mean"),
        ("kid", "kernel_inception_distance_mean"),
        ("precision", "precision"),
        ("recall", "recall"),
    ],
)
def test_figures_equal_torch_fidelitys(ours, theirs, name, key):
    assert abs(theirs[key]) > 0
    assert ours[name] == pytest.approx(theirs[key], rel=1e-3)


@pytest.fixture(scope="module")
def features(files):
    """Our extractor's outputs of both sets."""
    extractor = InceptionExtractor(weights=files / "weights.pth")

    def of(name):
        data = open_images(str(files / name)).images
        return extractor.features(torch.stack([data[i]["image"] for i in range(len(data))]))

    return {name: of(name) for name in COUNTS}


def test_kid_and_is_equal_torch_fidelitys_functions(features):
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = features["images"]["pooled"], features["reference"]["pooled"]
    found = kernel_distance(a, b, subset_size=10)
    expected = kid_features_to_metric(a, b, kid_subset_size=10, verbose=False)
    assert found.value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-6)
    assert found.details["std_over_subsets"] == pytest.approx(
        expected["kernel_inception_distance_std"], rel=1e-6
    )
    logits = torch.randn(53, 7, generator=torch.Generator().manual_seed(0)) * 3
    for order, shuffle in (("shuffled", True), ("file", False)):
        expected = isc_features_to_metric(logits, shuffle=shuffle)
        found = inception_score(logits, order=order)
        assert found.value == pytest.approx(expected["inception_score_mean"], rel=1e-12)
        assert found.details["std_over_splits"] == pytest.approx(expected["inception_score_std"], rel=1e-9)


def test_kid_of_equal_distributions_is_about_zero_and_of_others_is_not():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(200, 16, generator=generator) for _ in range(2))
    near, far = (kernel_distance(a, other, subset_size=100) for other in (b, b + 0.5))
    assert abs(near.value) < 3 * near.standard_error
    assert far.value > 100 * abs(near.value)
    assert kernel_distance(a, b).standard_error is None  # every subset is the whole set


def test_the_stated_error_of_kid_is_the_spread_of_fresh_draws():
    def draw(seed):
        return torch.rand(200, 16, generator=torch.Generator().manual_seed(seed))

    def stated_and_real(shift):
        options = {"subset_size": 50, "subsets": 20}
        fresh = [kernel_distance(draw(seed), draw(999 + seed) + shift, **options) for seed in range(40)]
        return sum(found.standard_error for found in fresh) / 40, np.std([found.value for found in fresh])

    stated, real = stated_and_real(0.3)
    assert stated == pytest.approx(real, rel=0.5)
    stated, real = stated_and_real(0.0)
    assert real < stated < 4 * real  # of equal distributions it is an upper bound


def test_the_inception_score_of_certain_and_of_equal_predictions():
    certain = 100.0 * nn.functional.one_hot(torch.arange(100) % 5).float()
    assert inception_score(certain, order="file").value == pytest.approx(5.0)
    assert inception_score(torch.ones(100, 5)).value == pytest.approx(1.0)


def reference_spatial(images, weights):
    """``mixed_6/conv``: torch-fidelity's blocks up to Mixed_6c, then the next block's first branch with its ReLU.

    Its own modules and no fused normalisation; flattened as TensorFlow lays it out, channels last.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    net = FeatureExtractorInceptionV3("n", ["2048"], feature_extractor_weights_path=str(weights))
    x = interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(299, 299), align_corners=False)
    x = (x - 128) / 128
    for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1"):
        x = getattr(net, name)(x)
    for name in ("Conv2d_4a_3x3", "MaxPool_2", "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b"):
        x = getattr(net, name)(x)
    branch = net.Mixed_6d.branch1x1
    channels = torch.relu(branch.bn(branch.conv(net.Mixed_6c(x))))[:, :7]
    return torch.stack([channels[:, :, row, column] for row in range(17) for column in range(17)], 1).flatten(
        1
    )


def test_sfid_is_the_distance_in_the_first_seven_channels_of_mixed_6(files, features, ours):
    data = open_images(str(files / "images")).images
    images = torch.stack([data[i]["image"] for i in range(4)])
    with torch.no_grad():
        expected = reference_spatial(images, files / "weights.pth")
    found = features["images"][SPATIAL]
    assert found.shape == (16, 2023)
    torch.testing.assert_close(found[:4], expected, rtol=1e-4, atol=1e-5)
    a, b = (moments_of(features[name][SPATIAL]) for name in COUNTS)
    assert ours["sfid"] == pytest.approx(frechet_distance(a, b), rel=1e-9)


def brute_force(images, reference, k):
    """ADM's precision and recall, written out: radii to the k-th neighbour beside itself, closed balls."""

    def radii(rows):
        return [np.sort(np.linalg.norm(rows - row, axis=1))[k] for row in rows]

    def share(rows, centres, sizes):
        return np.mean(
            [any(np.linalg.norm(row - c) <= r for c, r in zip(centres, sizes, strict=True)) for row in rows]
        )

    return share(images, reference, radii(reference)), share(reference, images, radii(images))


def brute_density_and_coverage(images, reference, k):
    sizes = [np.sort(np.linalg.norm(reference - row, axis=1))[k] for row in reference]
    inside = np.array(
        [[np.linalg.norm(y - x) < r for x, r in zip(reference, sizes, strict=True)] for y in images]
    )
    return inside.sum() / (k * len(images)), inside.any(0).mean()


def test_nearest_neighbour_scores_are_their_definitions(features, ours):
    a, b = (features[name]["pooled"].double().numpy() for name in COUNTS)
    precision, recall = brute_force(a, b, 3)
    density, coverage = brute_density_and_coverage(a, b, 5)
    assert 0 < precision < 1
    assert 0 < coverage < 1
    assert (ours["precision"], ours["recall"]) == (pytest.approx(precision), pytest.approx(recall))
    assert (ours["density"], ours["coverage"]) == (pytest.approx(density), pytest.approx(coverage))


def test_images_compared_with_themselves():
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    scores = manifold_scores(rows, rows)
    assert (scores.precision.value, scores.recall.value, scores.coverage.value) == (1, 1, 1)
    radii = squared_radii(torch.arange(5.0).double()[:, None], (1, 3))
    assert radii.tolist() == [[1, 1, 1, 1, 1], [9, 4, 4, 4, 9]]
    with pytest.raises(ValueError, match="too few"):
        manifold_scores(rows[:5], rows)


def test_the_published_weights_are_known_by_their_hash(files, caplog):
    extractor = InceptionExtractor(weights=files / "weights.pth")
    assert extractor.identity["published_weights"] is False
    assert any("is not the published file" in record.getMessage() for record in caplog.records)
    assert Path(extractor.identity["weights"]).name == "weights.pth"
