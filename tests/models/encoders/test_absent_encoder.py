"""An autoencoder opened without its encoder: decodes alike, knows what it is, and says why it cannot encode."""

import json

import pytest
import torch

from tiny_latents import some_stats
from tiny_models import tiny_rae
from unirae.core.errors import WeightsError
from unirae.models.checkpoints.opening import load_rae
from unirae.models.encoders import build
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE


@pytest.fixture
def rae(monkeypatch):
    """The encoder is built here and cannot be built again."""
    rae = tiny_rae("mae", stats=some_stats())
    monkeypatch.setattr(build, "KINDS", {})
    return rae


def reopened(rae: RAE, spec=None) -> RAE:
    spec = json.loads(json.dumps(rae.spec() if spec is None else spec))
    return RAE.from_spec(spec, rae.decoder.state_dict(), stats=rae.stats, with_encoder=False)


@torch.no_grad()
def test_it_decodes_and_is_the_same_autoencoder(rae):
    absent, latents = reopened(rae), torch.randn(2, 16, 4, 4)
    assert torch.equal(absent.decode(latents), rae.decode(latents))
    assert absent.spec() == rae.spec()
    assert absent.latent_shape == rae.latent_shape
    assert list(absent.encoder.parameters()) == []
    assert reopened(absent).spec() == rae.spec()


@torch.no_grad()
def test_an_autoencoder_gives_up_its_encoder():
    rae, latents = tiny_rae("mae", stats=some_stats()), torch.randn(2, 16, 4, 4)
    absent = rae.without_encoder()
    assert torch.equal(absent.decode(latents), rae.decode(latents))
    assert (absent.spec(), absent.fingerprint) == (rae.spec(), rae.fingerprint)
    assert list(absent.encoder.parameters()) == []
    with pytest.raises(WeightsError, match="was not loaded"):
        absent.encode(torch.rand(1, 3, 32, 32))


def test_it_cannot_encode(rae):
    absent, images = reopened(rae), torch.rand(1, 3, 32, 32)
    calls = [absent.encode, absent.tokens, absent.reconstruct, absent.encoder, absent.encoder.feature_maps]
    for call in calls:
        with pytest.raises(WeightsError, match=r"encoder \(tiny-mae\) was not loaded.*load_rae\(path\)"):
            call(images)


def test_the_first_checkpoints_did_not_say_the_shape_of_latents(rae):
    spec = rae.spec()
    assert spec.pop("latent_shape") == [16, 4, 4]
    assert reopened(rae, spec).spec() == rae.spec()


def test_oblong_images():
    rae = tiny_rae("mae", size=(16, 32))
    assert reopened(rae).latent_shape == (16, 2, 4)


def test_a_checkpoint_opens_without_its_encoder(rae, tmp_path):
    about = {"kind": "stage1", "rae": rae.spec(), "encoder_state": None}
    about["latent_stats"] = rae.stats.to_dict()
    decoder = {f"ema.{name}": value for name, value in rae.decoder.state_dict().items()}
    torch.save({"unirae": about, "state_dict": decoder}, tmp_path / "rae.ckpt")
    opened = load_rae(tmp_path / "rae.ckpt", with_encoder=False)
    assert opened.spec() == rae.spec()
    assert torch.equal(opened.stats.mean, rae.stats.mean)


def test_statistics_of_other_shapes_do_not_fit():
    assert LatentStats().fit((16, 4, 4))
    assert LatentStats(mean=torch.zeros(16, 1, 1), var=torch.ones(16, 4, 4)).fit((16, 4, 4))
    for shape in ((16, 2, 2), (8, 1, 1), (1, 4, 4)):
        assert not LatentStats(var=torch.ones(shape)).fit((16, 4, 4))
