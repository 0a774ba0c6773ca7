"""The diagnosis of small autoencoders: each figure against its definition, the same for every batch size."""

import json

import pytest
import torch

from tiny_models import tiny_decoder, tiny_encoder, tiny_rae
from toy_extractors import MeanColour
from unirae.core.errors import DataError, NonFiniteError
from unirae.core.images import to_float, to_uint8
from unirae.core.keyed_random import Stream, normal, sample_keys
from unirae.data.dataset import ImageDataset
from unirae.data.synthetic import SyntheticSource
from unirae.data.transforms import AdmCenterCrop
from unirae.evaluation.diagnosis.changes import INTERPOLATION, NOISE, all_changes
from unirae.evaluation.diagnosis.diagnose import diagnose
from unirae.metrics.frechet import frechet_distance
from unirae.metrics.moments import moments_of
from unirae.metrics.pixel import psnr
from unirae.models.rae import RAE


@pytest.fixture(scope="module")
def data():
    source = SyntheticSource(split="val", image_size=24, train_count=4, val_count=19, classes=2)
    return ImageDataset(source=source, transform=AdmCenterCrop(size=16))


@pytest.fixture(scope="module")
def fused():
    encoder = tiny_encoder("dinov3", layers=[0, 1], add_token_mean=True)
    return RAE(encoder=encoder, decoder=tiny_decoder(), encoder_input_size=32)


@pytest.fixture(scope="module")
def found(fused, data):
    return diagnose(fused, data, extractor=MeanColour())


def in_order(data, seed=0):
    """The images as the diagnosis reads them, in an order of its own."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    return torch.stack([data[index]["image"] for index in order])


def test_the_plain_reconstruction(found, fused, data):
    images = in_order(data)
    with torch.no_grad():
        copies = to_uint8(fused(to_float(images)))
    plain = found.at("noise", 0.0)
    assert plain.psnr == pytest.approx(float(psnr(images, copies).mean()), abs=1e-3)
    of_images, of_copies = (moments_of(MeanColour()(some)) for some in (images, copies))
    assert plain.frechet == pytest.approx(frechet_distance(of_copies, of_images), rel=1e-3)
    assert found.count == 19


def test_noise_is_in_deviations_of_the_channels(found, fused, data):
    images = in_order(data)
    with torch.no_grad():
        tokens = fused.tokens(to_float(images))
        scale = tokens.movedim(1, -1).flatten(0, 2).double().std(0)[:, None, None].float()
        noise = normal(sample_keys(0, 0, torch.arange(19)), tokens.shape[1:], Stream.LATENT_NOISE)
        copies = to_uint8(fused.decode_tokens(tokens + 0.8 * scale * noise))
    assert found.at("noise", 0.8).psnr == pytest.approx(float(psnr(images, copies).mean()), abs=1e-2)


def test_blocks_left_out(found, fused, data):
    """Without block 0 the mean is block 1 alone, whose mean over patches stays."""
    images = in_order(data)
    alone = tiny_encoder("dinov3", layers=[1], add_token_mean=True)
    with torch.no_grad():
        copies = to_uint8(fused.decode_tokens(alone(fused.encoder_input(to_float(images)))))
    assert found.at("left_out", 0).psnr == pytest.approx(float(psnr(images, copies).mean()), abs=1e-3)


def test_every_change_is_there_and_only_an_interpolation_has_no_original(found):
    amounts = {kind: [o.amount for o in found.curve(kind)] for kind in ("noise", "interpolation", "left_out")}
    assert amounts == {"noise": [*NOISE], "interpolation": [*INTERPOLATION], "left_out": [0, 1]}
    assert all((o.psnr is None) == (o.kind == "interpolation") for o in found.outcomes)
    assert len(found.pictures) == 1 + len(found.outcomes)
    assert json.loads(json.dumps(found.to_dict()))["latents"]["channels"] == 16


def test_an_interpolation_is_between_an_image_and_its_neighbour(fused):
    change = next(c for c in all_changes(fused) if (c.kind, c.amount) == ("interpolation", 0.25))
    tokens = torch.tensor([[0.0], [8.0], [4.0]])[:, :, None, None]
    batch = type("Batch", (), {"tokens": tokens})()
    assert change.apply(batch).flatten().tolist() == [1.0, 6.0, 5.0]


def test_an_encoder_of_one_block_has_none_to_leave_out(data):
    found = diagnose(tiny_rae(), data, extractor=MeanColour(), num_samples=4)
    assert not found.curve("left_out")
    assert found.time_shift == 1.0


def test_neither_the_batch_size_nor_a_second_call_changes_a_figure(found, fused, data):
    again = diagnose(fused, data, extractor=MeanColour(), batch_size=3)
    assert again.outcomes == found.outcomes
    assert again.spectrum == found.spectrum


def test_mistakes(fused, data):
    with pytest.raises(DataError, match="at least 2 images"):
        diagnose(fused, data, extractor=MeanColour(), num_samples=1)
    decoder = tiny_decoder()
    with torch.no_grad():
        next(decoder.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="decoder is broken"):
        diagnose(fused.with_decoder(decoder), data, extractor=MeanColour(), num_samples=4)
