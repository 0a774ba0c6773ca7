"""Licences of encoders' weights travel with the folders that hold them."""

from dataclasses import replace

import pytest

from tiny_models import tiny_decoder, tiny_encoder
from unirae.app.weights.model_card import autoencoder_in_words
from unirae.models.checkpoints.making import rae_content
from unirae.models.checkpoints.model_folder import LICENCE, write_model_folder
from unirae.models.encoders.licences import licence_of
from unirae.models.rae import RAE

ORIGIN = {"program": "test", "version": "0", "files": {}}


def published(kind: str, name: str):
    """A tiny encoder with the identity of published weights, which travel inside."""
    encoder = tiny_encoder(kind)
    encoder._identity = replace(encoder.identity, name=name, weights="hub", embedded=True)
    return encoder


@pytest.mark.parametrize(
    ("kind", "name", "licence", "notice"),
    [
        ("dinov3", "facebook/dinov3-vitb16-pretrain-lvd1689m", "DINOv3 License", "DINO Materials"),
        ("dinov3", "my-folder", "DINOv3 License", "DINO Materials"),
        ("dinov3", "facebook/EUPE-ViT-B", "FAIR Noncommercial Research License", ""),
        ("dinov3", "my-eupe", "not listed here", ""),
        ("dinov2", "facebook/webssl-dino1b-full2b-224", "CC-BY-NC-4.0", ""),
        ("generic_hf", "facebook/ijepa_vith14_1k", "CC-BY-NC-4.0", ""),
        ("generic_hf", "openai/clip-vit-large-patch14", "MIT (the original's)", ""),
        ("timm", "mocov3_vit_base", "CC-BY-NC-4.0", ""),
        ("timm", "vit_pe_core_base_patch16_224.fb", "apache-2.0", ""),
        ("timm", "vit_base_patch16_dinov3.lvd1689m", "dinov3-license", "DINO Materials"),
        ("timm", "vit_base_patch16_224", "not listed here", ""),
        ("dinov2", "facebook/dinov2-base", "Apache-2.0", ""),
        ("mae", "facebook/vit-mae-base", "CC-BY-NC-4.0", ""),
        ("mae", "mae_tiny", "not listed here", ""),
    ],
)
def test_a_folder_with_the_weights_and_its_card_say_the_licence(kind, name, licence, notice, tmp_path):
    rae = RAE(encoder=published(kind, name), decoder=tiny_decoder(), encoder_input_size=32)
    write_model_folder(tmp_path, rae_content(rae, config={}, origin=ORIGIN))
    text = (tmp_path / LICENCE).read_text()
    assert text.startswith(f"Encoder {name}: {licence}")
    assert notice in text
    row = autoencoder_in_words(rae.spec())["the encoder's licence"]
    assert row.startswith(licence)
    assert notice in row


def test_random_weights_and_weights_elsewhere_need_no_file(tmp_path):
    random = RAE(encoder=tiny_encoder(), decoder=tiny_decoder(), encoder_input_size=32)
    assert licence_of(random.encoder.identity) is None
    assert "the encoder's licence" not in autoencoder_in_words(random.spec())
    elsewhere = published("dinov2", "facebook/dinov2-base")
    elsewhere._identity = replace(elsewhere._identity, embedded=False)
    for number, encoder in enumerate((random.encoder, elsewhere)):
        (tmp_path / str(number)).mkdir()
        rae = RAE(encoder=encoder, decoder=tiny_decoder(), encoder_input_size=32)
        write_model_folder(tmp_path / str(number), rae_content(rae, config={}, origin=ORIGIN))
        assert not (tmp_path / str(number) / LICENCE).exists()
