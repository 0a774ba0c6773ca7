"""Official stage-1 names: losslessly to ours and back, and clear errors."""

import pytest
import torch

from tiny_models import tiny_decoder
from unirae.core.errors import ConfigError, WeightsError
from unirae.models.denoisers.build import build_denoiser
from unirae.models.interop.official.dit import dit_to_official, official_prediction
from unirae.models.interop.official.names import decoder_from_official, decoder_to_official, split_rae
from unirae.models.interop.official.to_generator_v2 import check_dit_v2


def test_round_trip_of_our_decoder():
    state = tiny_decoder().state_dict()
    official = decoder_to_official(state)
    assert "decoder_layers.1.attention.attention.query.bias" in official
    back = decoder_from_official(official)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_a_whole_official_rae_is_split():
    whole = {f"decoder.{k}": t for k, t in decoder_to_official(tiny_decoder().state_dict()).items()}
    whole["encoder.encoder.layernorm_free"] = torch.ones(1)
    decoder, encoder = split_rae(whole, what="x.pt")
    assert decoder_from_official(decoder).keys() == tiny_decoder().state_dict().keys()
    assert encoder.keys() == {"layernorm_free"}
    for foreign in ("encoder.surprise", "decoder_norm.bias", "optimizer"):
        with pytest.raises(WeightsError, match=rf"x\.pt holds a whole autoencoder .* 1 tensors .* {foreign}"):
            split_rae(whole | {foreign: torch.ones(1)}, what="x.pt")


def test_what_the_official_code_cannot_predict_is_refused():
    sizes = {
        "input_size": 4,
        "in_channels": 4,
        "num_classes": 2,
        "hidden_size": 16,
        "depth": 1,
        "num_heads": 2,
    }
    assert official_prediction(build_denoiser("dit", **sizes)) == "velocity"
    with pytest.raises(ConfigError, match="this network predicts data; the official RAE code"):
        official_prediction(build_denoiser("dit", **sizes, prediction="data"))


def test_foreign_keys_are_named():
    with pytest.raises(WeightsError, match=r"conv1\.weight is no key of an official RAE decoder"):
        decoder_from_official({"conv1.weight": torch.ones(1)})
    with pytest.raises(WeightsError, match="no key of our decoder"):
        decoder_to_official({"conv1.weight": torch.ones(1)})


def test_half_a_projection_is_an_error():
    official = decoder_to_official(tiny_decoder().state_dict())
    del official["decoder_layers.0.attention.attention.key.bias"]
    with pytest.raises(WeightsError, match=r"blocks\.0\.attention\.qkv\.bias has only query, value"):
        decoder_from_official(official)


@pytest.mark.parametrize("options", [{"conditioning": "tokens"}, {"base_head_depth": 1}])
def test_networks_of_raev2_are_not_written_for_version_1(options):
    network = build_denoiser(
        "dit", input_size=2, in_channels=4, num_classes=2, hidden_size=8, depth=1, num_heads=1, **options
    )
    with pytest.raises(ConfigError, match=r"the official code of RAE has no .* they are RAEv2's"):
        dit_to_official(network)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"RAEv2 has networks with conditioning=tokens, .* this one has conditioning=adaln, use_qknorm=False",
        ),
        ({"conditioning": "tokens"}, r"this one has use_qknorm=False$"),
        (
            {"conditioning": "tokens", "use_qknorm": True, "input_size": (2, 4)},
            "RAEv2 has square latents only, not 2×4 tokens",
        ),
    ],
)
def test_networks_that_raev2_does_not_have_are_not_written_for_it(options, message):
    sizes = {
        "input_size": 2,
        "in_channels": 4,
        "num_classes": 2,
        "hidden_size": 8,
        "depth": 1,
        "num_heads": 1,
    }
    with pytest.raises(ConfigError, match=message):
        check_dit_v2(build_denoiser("dit", **sizes | options))
    check_dit_v2(build_denoiser("dit", **sizes, conditioning="tokens", use_qknorm=True))
