"""Parity with the reference implementation: encode and decode, with and without statistics."""

import pytest
import torch

from tiny_models import relative_l2
from unirae.models.interop.official.names import decoder_from_official, decoder_to_official
from unirae.models.rae import RAE

TOLERANCE = 1e-4


@pytest.fixture
def normalised(golden) -> RAE:
    return RAE(
        encoder=golden.rae.encoder, decoder=golden.rae.decoder, encoder_input_size=56, stats=golden.stats
    )


def test_raw_latents_match(golden):
    assert relative_l2(golden.rae.encode(golden.tensors["x"]), golden.tensors["latent_raw"]) < TOLERANCE


def test_normalised_latents_match(golden, normalised: RAE):
    assert relative_l2(normalised.encode(golden.tensors["x"]), golden.tensors["latent"]) < TOLERANCE


@torch.no_grad()
def test_reconstruction_matches_with_and_without_statistics(golden, normalised: RAE):
    expected = golden.tensors["reconstruction"]
    assert relative_l2(golden.rae.decode(golden.tensors["latent_raw"]), expected) < TOLERANCE
    assert relative_l2(normalised.decode(golden.tensors["latent"]), expected) < TOLERANCE
    assert relative_l2(normalised.reconstruct(golden.tensors["x"]), expected) < TOLERANCE
    # the test can fail: statistics matter
    assert relative_l2(golden.rae.decode(golden.tensors["latent"]), expected) > 100 * TOLERANCE


def test_official_decoder_names_round_trip(golden):
    official = {k.removeprefix("decoder."): t for k, t in golden.tensors.items() if k.startswith("decoder.")}
    back = decoder_to_official(decoder_from_official(official))
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], official[key]) for key in official)
