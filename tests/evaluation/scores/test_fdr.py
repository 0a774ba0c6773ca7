"""The networks of FDr6: all found before any is loaded, and each missing one named."""

import pytest
import torch

from tiny_fdr import SPACES, WIDTH, write_moments, write_weights
from toy_extractors import ToyInception
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.weights import VARIABLE
from unirae.evaluation.references.published_moments import published_moments
from unirae.evaluation.scores.fdr import build_fdr_metrics, find_space_weights
from unirae.metrics.extractors import POOLED
from unirae.metrics.frechet_ratio import Space
from unirae.metrics.set_metrics import compute, means, needs
from unirae.metrics.statistics import Collector

TIMM = ("convnext", "dinov2", "mae", "siglip", "clip")


class WideInception(ToyInception):
    """As wide as the published moments."""

    widths = {POOLED: 2048}  # noqa: RUF012


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"))


def test_places(weights, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    names = {space.name: space.model for space in SPACES if space.model is not None}
    assert find_space_weights("hub") == find_space_weights("random") == names
    assert find_space_weights(weights) == {name: str(weights / name) for name in TIMM}
    for name in TIMM:
        (tmp_path / f"{name}.safetensors").touch()
    assert find_space_weights(str(tmp_path))["mae"] == str(tmp_path / "mae.safetensors")


def test_all_that_is_missing_is_named(tmp_path):
    folder = write_weights(tmp_path / "weights", without="mae")
    (folder / "clip/config.json").unlink()
    message = (
        r"has no weights of mae, clip, and .*hf download timm/vit_large_patch16_224\.mae --local-dir .*/mae"
    )
    with pytest.raises(WeightsError, match=message):
        find_space_weights(folder)
    with pytest.raises(
        WeightsError, match=r"no such folder; it holds one entry for each of convnext, dinov2"
    ):
        find_space_weights(tmp_path / "none")


def test_the_weights_folder_serves_them(weights, tmp_path, monkeypatch):
    carried = tmp_path / "carried"
    carried.mkdir()
    monkeypatch.setenv(VARIABLE, str(carried))
    with pytest.raises(
        WeightsError, match=rf"{VARIABLE}=.* has no weights of convnext, dinov2, mae, siglip, clip"
    ):
        find_space_weights("hub")
    for space in SPACES:
        if space.model is not None:
            (carried / f"timm--{space.model}").symlink_to(weights / space.name)
    assert find_space_weights("hub")["siglip"] == str(
        carried / "timm--vit_so400m_patch16_siglip_256.v2_webli"
    )


def test_weights_of_another_model_are_refused(weights, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in TIMM:
        (folder / name).symlink_to(weights / ("clip" if name == "mae" else name))
    message = (
        "fdr6 lacks the network of mae: .* holds a vit_large_patch14_clip_224, not a vit_large_patch16_224"
    )
    with pytest.raises(WeightsError, match=message):
        build_fdr_metrics(ToyInception(), weights=folder, published=None)


def test_seven_scores(weights, tmp_path):
    """Each ratio is the distance to its own moments over its own constant; the mean is that of all six."""
    from unirae.metrics.frechet import frechet_distance
    from unirae.metrics.moments import moments_of

    published = published_moments(write_moments(tmp_path))
    metrics = build_fdr_metrics(WideInception(), weights=weights, published=published)
    images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8)
    images[:10] //= 4
    collector = Collector(needs(metrics, of_reference=False), count=20)
    collector.update(torch.arange(20), images)
    found = compute(metrics, collector.compute(), {})
    for space, metric in zip(SPACES, metrics, strict=True):
        distance = frechet_distance(moments_of(metric.extractor(images)), published[space.name].moments)
        expected = distance / space.validation_distance
        assert found[f"fdr_{space.name}"].value == pytest.approx(expected, rel=1e-6)
    terms = [found[f"fdr_{space.name}"].value for space in SPACES]
    assert found["fdr6"].value == pytest.approx(sum(terms) / 6)
    assert len(set(terms)) == 6


def test_moments_of_another_width(weights, tmp_path):
    moments = published_moments(write_moments(tmp_path, width=WIDTH + 1))
    with pytest.raises(ConfigError, match="moments of convnext are of 17 features, but its network gives 16"):
        build_fdr_metrics(WideInception(), weights=weights, published=moments)


def test_random_networks_say_so():
    tiny = [
        Space(name="inception", validation_distance=1.0, statistics=()),
        Space(name="a", validation_distance=1.0, statistics=(), model="test_convnext", pooling="spatial"),
        Space(name="b", validation_distance=1.0, statistics=(), model="test_vit", input_size_px=40),
    ]
    metrics = build_fdr_metrics(ToyInception(), weights="random", published=None, spaces=tiny)
    assert means(metrics) == {"fdr6_random": ["fdr_inception", "fdr_random_a", "fdr_random_b"]}
    assert metrics[1].settings["weights"] == "random"
    assert metrics[1].settings["published_weights"] is False
