"""What of an encoder decides its tokens: compared by caches, records and fingerprints, and only that."""

import json
from dataclasses import asdict, dataclass, fields, replace

import pytest
import torch

from tiny_models import TINY_ARCHITECTURES, tiny_decoder, tiny_encoder, tiny_rae
from unirae.core.errors import WeightsError
from unirae.models.encoders.build import build_encoder, encoder_from_identity
from unirae.models.encoders.identity import EncoderIdentity
from unirae.models.rae import RAE

IDENTITY = EncoderIdentity(
    kind="mae",
    name="tiny",
    source="tiny",
    weights="hub",
    config={"hidden_size": 16, "num_attention_heads": 2},
    pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.2, 0.2, 0.2),
    embedded=False,
    sha256="ab",
)


def heads(count: int, **options) -> dict[str, int | str]:
    return TINY_ARCHITECTURES["mae"] | {"num_attention_heads": count} | options


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "dinov2"),
        ("config", {"hidden_size": 16, "num_attention_heads": 4}),
        ("pixel_mean", (0.5, 0.5, 0.4)),
        ("pixel_std", (0.3, 0.2, 0.2)),
        ("sha256", "cd"),
        ("layers", (1, 3)),
        ("combine", "sum"),
        ("add_token_mean", True),
        ("norm_affine", True),
        ("final_norm", False),
        ("rope_periods", "bf16"),
    ],
)
def test_each_of_these_decides(field, value):
    assert replace(IDENTITY, **{field: value}).decisive() != IDENTITY.decisive()


@pytest.mark.parametrize(
    ("field", "value"), [("name", "other"), ("source", "/else"), ("weights", "path"), ("embedded", True)]
)
def test_names_and_places_do_not(field, value):
    assert replace(IDENTITY, **{field: value}).decisive() == IDENTITY.decisive()


def test_every_field_was_looked_at():
    """One that is added decides, unless it is named as one that does not: then it belongs in the tests above."""
    assert {field.name for field in fields(EncoderIdentity)} == {
        *("kind", "config", "pixel_mean", "pixel_std", "sha256"),
        *("layers", "combine", "add_token_mean", "norm_affine", "final_norm", "rope_periods"),
        *("name", "source", "weights", "embedded"),
    }


@dataclass(frozen=True, kw_only=True)
class Fusing(EncoderIdentity):
    """An identity of a later version, which knows more."""

    blocks: tuple[int, ...] | None = None
    norm: str = "plain"


def test_a_new_field_with_its_default_leaves_old_records_as_they_are():
    later = Fusing(**asdict(IDENTITY))
    assert later.decisive(input_size=(32, 32)) == IDENTITY.decisive(input_size=(32, 32))
    chosen = replace(later, blocks=(3, 7)).decisive()
    assert chosen == IDENTITY.decisive() | {"blocks": [3, 7]}
    assert replace(later, norm="affine").decisive() == IDENTITY.decisive() | {"norm": "affine"}


def test_the_record_is_equal_after_a_round_trip_and_by_what_is_applied():
    record = IDENTITY.decisive(input_size=(32, 48))
    assert json.loads(json.dumps(record)) == record
    assert record["input_size"] == [32, 48]
    rounded = tuple(torch.tensor([0.485, 0.456, 0.406]).tolist())
    assert rounded[0] != 0.485
    assert (
        replace(IDENTITY, pixel_mean=rounded).decisive()
        == replace(IDENTITY, pixel_mean=(0.485, 0.456, 0.406)).decisive()
    )


def test_what_only_training_reads_does_not_decide():
    dropped = tiny_encoder("mae", architecture=heads(2, hidden_dropout_prob=0.3, decoder_hidden_size=8))
    assert dropped.identity.config["hidden_dropout_prob"] == 0.3
    assert dropped.identity.decisive() == tiny_encoder("mae").identity.decisive()


def test_the_tag_of_a_timm_model_does_not_decide_but_its_architecture_does():
    names = ("vit_base_patch16_clip_224.openai", "hf-hub:timm/vit_base_patch16_clip_224.openai")
    names += ("vit_base_patch16_clip_quickgelu_224",)
    first, second, third = (
        replace(IDENTITY, kind="timm", config={"model_name": name}).decisive() for name in names
    )
    assert first == second != third


@torch.no_grad()
def test_equal_weights_with_other_heads_are_another_autoencoder():
    """Nothing of the weights' shapes shows the number of heads."""
    one, other = (tiny_encoder("mae", architecture=heads(count, initializer_range=0.5)) for count in (2, 4))
    assert one.weights_sha256 == other.weights_sha256
    images = torch.rand(1, 3, 32, 32)
    assert not torch.allclose(one(images), other(images), atol=1e-3)
    decoder = tiny_decoder()
    first, second = (RAE(encoder=e, decoder=decoder, encoder_input_size=32) for e in (one, other))
    assert first.weights_fingerprint == second.weights_fingerprint
    assert first.fingerprint != second.fingerprint


def test_the_fingerprint_knows_the_input_size_and_the_decoder():
    plain = tiny_rae("mae")
    other = RAE(encoder=plain.encoder, decoder=plain.decoder, encoder_input_size=(16, 64))
    assert other.fingerprint != plain.fingerprint
    assert plain.with_decoder(tiny_decoder()).fingerprint != plain.fingerprint
    assert plain.with_stats(plain.stats).fingerprint == plain.fingerprint


def test_an_autoencoder_without_weights_has_one_too():
    with torch.device("meta"):
        rae = tiny_rae("mae")
    assert rae.identity["decoder"] == {"sha256": ""}
    assert rae.fingerprint


def test_a_folder_with_the_same_weights_and_other_heads_is_refused(tmp_path):
    random = tiny_encoder("mae")
    random.backbone.save_pretrained(tmp_path / "mae")
    encoder = build_encoder(kind="mae", name="tiny", weights=str(tmp_path / "mae"))
    assert encoder_from_identity(encoder.identity).weights_sha256 == random.weights_sha256
    config = tmp_path / "mae/config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"attention_probs_dropout_prob": 0.5}))
    encoder_from_identity(encoder.identity)
    config.write_text(json.dumps(content | {"num_attention_heads": 4}))
    with pytest.raises(WeightsError, match="architecture differs: num_attention_heads 4, recorded 2"):
        encoder_from_identity(encoder.identity)


def test_a_key_that_a_library_has_learnt_since_does_not_count(tmp_path):
    tiny_encoder("mae").backbone.save_pretrained(tmp_path / "mae")
    identity = build_encoder(kind="mae", name="tiny", weights=str(tmp_path / "mae")).identity
    config = {key: value for key, value in identity.config.items() if key != "qkv_bias"}
    assert len(config) < len(identity.config)
    assert encoder_from_identity(replace(identity, config=config)).identity.sha256 == identity.sha256
