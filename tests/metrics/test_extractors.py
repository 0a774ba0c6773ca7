"""Extractors: fixed chunks, explicit and hashed weights."""

import pytest
import torch
from torch import nn

from unirae.core.errors import WeightsError
from unirae.metrics.extractors import EncoderExtractor
from unirae.metrics.inception import InceptionExtractor


class PatchEncoder(nn.Module):
    """An encoder in miniature that remembers the shapes it was called with."""

    width = 6

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, kernel_size=4, stride=4)
        self.calls = []

    def forward(self, images):
        self.calls.append(tuple(images.shape))
        return self.embed(images)


def _images(count):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)


def test_the_network_never_sees_the_callers_batch_size():
    encoder = PatchEncoder()
    extractor = EncoderExtractor(encoder=encoder, name="tiny", identity={}, input_size=(8, 12), chunk=4)
    features = extractor(_images(10))
    assert features.shape == (10, 6)
    assert set(encoder.calls) == {(4, 3, 8, 12)}
    one_by_one = torch.cat([extractor(image[None]) for image in _images(10)])
    torch.testing.assert_close(one_by_one, features, rtol=1e-6, atol=1e-7)


def test_features_are_float32_inside_autocast():
    extractor = EncoderExtractor(encoder=PatchEncoder(), name="tiny", identity={})
    expected = extractor(_images(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = extractor(_images(4))
    assert features.dtype == torch.float32
    assert not features.requires_grad
    torch.testing.assert_close(features, expected, rtol=0, atol=0)


def test_random_inception_equals_torch_fidelitys_network_with_the_same_weights(tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from unirae.metrics.inception import random_inception_state

    path = tmp_path / "weights.pth"
    state = random_inception_state()
    torch.save(state, path)
    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], feature_extractor_weights_path=str(path))
    random, ours = InceptionExtractor(weights="random", chunk=2), InceptionExtractor(weights=path, chunk=2)
    images = _images(3)
    features = ours(images)
    torch.testing.assert_close(features, theirs(images)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features, random(images), rtol=0, atol=0)
    assert features.std() > 1e-2  # neither vanished nor exploded
    assert random.identity["sha256"] == ours.identity["sha256"]
    assert (random.name, ours.name) == ("random_inception", "inception")


def test_missing_and_foreign_weights_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=r"(?s)missing\.pth.*https://.*inception_weights"):
        InceptionExtractor(weights=tmp_path / "missing.pth")
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "foreign.pth")
    with pytest.raises(WeightsError, match="do not fit"):
        InceptionExtractor(weights=tmp_path / "foreign.pth")
