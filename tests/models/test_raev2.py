"""Autoencoders of RAEv2: the numbers of its code, decoders to RGB, and blocks that are dropped in training."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tiny_models import relative_l2, tiny_decoder, tiny_encoder, tiny_rae
from unirae.app.run.builders import check_decoder
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import save_tensors
from unirae.core.strict import load_strictly
from unirae.models.checkpoints.making import rae_content
from unirae.models.decoder import ViTDecoder
from unirae.models.encoders.build import build_encoder
from unirae.models.interop.decoder_weights import initialise_decoder
from unirae.models.interop.diffusers.rae_export import save_rae_as_diffusers
from unirae.models.interop.official.names import decoder_from_official, decoder_to_official
from unirae.models.interop.official.to_official import check_rae
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE

GOLDEN = Path(__file__).parents[1] / "golden/raev2_rae_dinov3_mls.safetensors"


def golden() -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(GOLDEN, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["config"])  # noqa: SIM118


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[RAE, dict[str, Tensor]]:
    """The golden autoencoder without statistics, and its tensors."""
    tensors, config = golden()
    file = tmp_path_factory.mktemp("hub") / "encoder.pth"
    torch.save(part(tensors, "encoder_hub."), file)
    encoder = build_encoder(
        kind="dinov3",
        name="golden",
        weights=str(file),
        layers=config["layers"],
        add_token_mean=True,
        rope_periods="bf16",
    )
    sizes = config["decoder"]
    decoder = ViTDecoder(
        token_dim=config["encoder"]["embed"],
        width=sizes["decoder_hidden_size"],
        depth=sizes["decoder_num_hidden_layers"],
        num_heads=sizes["decoder_num_attention_heads"],
        mlp_width=sizes["decoder_intermediate_size"],
        patch_size=16,
        grid=(4, 4),
        output="unit",
    )
    load_strictly(decoder, decoder_from_official(part(tensors, "decoder.")), what="decoder")
    return RAE(encoder=encoder, decoder=decoder, encoder_input_size=64), tensors


@torch.no_grad()
def test_latents_and_reconstructions_are_raev2s(reference):
    plain, tensors = reference
    mean, var = tensors["stat_mean"], tensors["stat_var"]
    rae, var_only = plain.with_stats(LatentStats(mean=mean, var=var)), plain.with_stats(LatentStats(var=var))
    images = tensors["image_uint8"] / 255
    found = {
        "latent_raw": plain.encode(images),
        "latent": rae.encode(images),
        "latent_var_only": var_only.encode(images),
        "latent_raw_96x80": plain.encode(tensors["image_96x80_uint8"] / 255),
        "reconstruction": rae.decode(tensors["latent"]),
        "reconstruction_no_stats": plain.decode(tensors["latent_raw"]),
        "reconstruction_z_random": rae.decode(tensors["z_random"]),
        "reconstruction_other_grid_no_stats": plain.decode_tokens(tensors["z_other_grid"]),
    }
    errors = {name: relative_l2(value, tensors[name]) for name, value in found.items()}
    assert max(errors.values()) < 1e-5, errors


# ---------------------------------------------------------------- the decoder's output


@torch.no_grad()
def test_a_decoder_to_rgb_is_not_denormalised():
    rae = tiny_rae()
    tokens = torch.randn(2, 16, 4, 4)
    unit = rae.with_decoder(with_output(rae.decoder, "unit"))
    pixels = rae.decoder(tokens)
    torch.testing.assert_close(unit.decode_tokens(tokens), pixels)
    torch.testing.assert_close(rae.decode_tokens(tokens), pixels * rae.encoder.std + rae.encoder.mean)
    assert unit.fingerprint != rae.fingerprint
    assert "output" not in rae.identity["decoder"]  # as records of before


def with_output(decoder: ViTDecoder, output: str) -> ViTDecoder:
    other = ViTDecoder(**{**decoder.architecture, "output": output})
    other.load_state_dict(decoder.state_dict())
    return other


def test_the_output_travels_in_the_description():
    rae = RAE(encoder=tiny_encoder(), decoder=tiny_decoder(output="unit"), encoder_input_size=32)
    again = RAE.from_spec(
        json.loads(json.dumps(rae.spec())), rae.decoder.state_dict(), encoder_state=rae.encoder.state_dict()
    )
    assert (again.decoder.output, again.fingerprint) == ("unit", rae.fingerprint)
    before = rae.spec()
    del before["decoder"]["output"]
    old = RAE.from_spec(before, rae.decoder.state_dict(), encoder_state=rae.encoder.state_dict())
    assert old.decoder.output == "encoder_pixels"


def test_an_unknown_output_is_refused():
    with pytest.raises(ConfigError, match="output=rgb is unknown; choose encoder_pixels"):
        tiny_decoder(output="rgb")


def test_a_decoder_does_not_start_from_one_of_the_other_output(tmp_path):
    rae = tiny_rae()
    origin = {"program": "test", "version": "0", "files": {}}
    save_tensors(tmp_path / "a.ckpt", rae_content(rae, config={}, origin=origin))
    initialise_decoder(tiny_decoder(), tmp_path / "a.ckpt")
    with pytest.raises(
        WeightsError, match="was trained with output=encoder_pixels, this one has output=unit"
    ):
        initialise_decoder(tiny_decoder(output="unit"), tmp_path / "a.ckpt")


# ---------------------------------------------------------------- what other formats cannot hold


@pytest.mark.parametrize(
    ("encoder", "decoder", "reason"),
    [
        ({"layers": [0, 1]}, {}, r"a combination of blocks \(layers=\[0, 1\]\)"),
        ({"norm_affine": True}, {}, "the affine part of the encoder's final norm"),
        ({"final_norm": False}, {}, "an encoder without its final norm"),
        ({}, {"output": "unit"}, "a decoder that gives RGB"),
        ({}, {"deblocking": 4}, "a correction across the borders of patches"),
    ],
)
def test_formats_of_before_refuse_what_they_cannot_hold(encoder, decoder, reason, tmp_path):
    rae = RAE(encoder=tiny_encoder(**encoder), decoder=tiny_decoder(**decoder), encoder_input_size=32)
    with pytest.raises(ConfigError, match=f"AutoencoderRAE cannot hold {reason}"):
        save_rae_as_diffusers(rae, tmp_path / "x")
    with pytest.raises(ConfigError, match=f"the official code of RAE cannot hold {reason}"):
        check_rae(rae, inside=True)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- layer dropout

KEYS = torch.arange(4000) * 7919 + 3


def dropping(p: float, layers: list[int] | None = None, **options: Any) -> RAE:
    architecture = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 32}
    architecture |= {
        "patch_size": 8,
        "intermediate_size": 32,
        "model_type": "dinov3_vit",
        "num_register_tokens": 4,
    }
    encoder = tiny_encoder(
        "dinov3", architecture=architecture, layers=layers or [0, 1, 3], add_token_mean=True
    )
    return RAE(
        encoder=encoder,
        decoder=tiny_decoder(),
        encoder_input_size=32,
        layer_dropout=p,
        **{"noise_tau": 0.0} | options,
    )


def test_each_block_is_dropped_with_probability_p_and_one_always_stays():
    keep = dropping(0.4).kept_blocks(KEYS)
    assert keep.any(dim=1).all()
    nothing = 0.4**3
    expected = 0.6 + nothing / 3
    torch.testing.assert_close(keep.float().mean(0), torch.full((3,), expected), atol=0.03, rtol=0)
    assert torch.equal(dropping(0.4).kept_blocks(KEYS[5:9]), keep[5:9])  # whatever else is in the batch


@torch.no_grad()
def test_the_mean_is_over_the_kept_blocks_and_the_token_mean_stays():
    rae = dropping(0.5)
    images, keys = torch.rand(6, 3, 32, 32), KEYS[:6]
    clean, dropped = rae.training_tokens(images, keys)
    torch.testing.assert_close(clean, rae.tokens(images))
    normed: list[Tensor] = []
    rae.encoder.visit_blocks(
        (images - rae.encoder.mean) / rae.encoder.std,
        [0, 1, 3],
        lambda _, tokens: normed.append(rae.encoder.final_norm(tokens)[:, -16:]),
    )
    keep = rae.kept_blocks(keys)
    assert not keep.all()
    for sample, kept in enumerate(keep):
        blocks = [tokens[sample] for tokens, is_kept in zip(normed, kept, strict=True) if is_kept]
        expected = sum(blocks) / len(blocks) + normed[-1][sample].mean(0)
        torch.testing.assert_close(dropped[sample].flatten(1).T, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_without_dropout_training_sees_the_noised_tokens_of_before():
    rae = dropping(0.0, noise_tau=0.8)
    images, keys = torch.rand(2, 3, 32, 32), KEYS[:2]
    clean, noised = rae.training_tokens(images, keys)
    assert torch.equal(clean, rae.tokens(images))
    assert torch.equal(noised, rae.add_noise(clean, keys))


def test_dropout_is_no_part_of_the_encoders_identity():
    assert dropping(0.5).token_identity == dropping(0.0).token_identity


@pytest.mark.parametrize(
    ("p", "layers", "message"), [(0.5, [2], "has one block alone"), (1.0, None, "below 1")]
)
def test_dropout_needs_several_blocks_and_a_probability(p, layers, message):
    with pytest.raises(ConfigError, match=message):
        dropping(p, layers)


def test_dropout_of_the_last_block_alone_is_refused():
    with pytest.raises(ConfigError, match="has its last block alone: choose several with layers"):
        tiny_rae(layer_dropout=0.1)


# ---------------------------------------------------------------- a bare official decoder, read the wrong way


def seeing(rae: RAE, monkeypatch, images: Tensor, space: str) -> RAE:
    """The same RAE, whose decoder gives these images with a little noise, as pixels of that space."""
    pixels = images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    given = pixels if space == "unit" else (pixels - rae.encoder.mean) / rae.encoder.std
    monkeypatch.setattr(rae.decoder, "forward", lambda tokens: given)
    return rae


@pytest.mark.parametrize("space", ["unit", "encoder_pixels"])
@pytest.mark.parametrize("said", ["unit", "encoder_pixels"])
def test_a_few_pictures_tell_the_space_of_a_bare_decoder(space, said, monkeypatch, tmp_path):
    rae = RAE(encoder=tiny_encoder(), decoder=tiny_decoder(output=said), encoder_input_size=32)
    save_tensors(tmp_path / "decoder.pt", decoder_to_official(rae.decoder.state_dict()))
    data = [{"image": torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)} for _ in range(10)]
    seeing(rae, monkeypatch, torch.stack([sample["image"] for sample in data[:8]]) / 255, space)
    if said == space:
        check_decoder(rae, data, str(tmp_path / "decoder.pt"))
        return
    with pytest.raises(
        WeightsError, match=rf"read with output={said}, .* off by .* with output={space}; set that"
    ):
        check_decoder(rae, data, str(tmp_path / "decoder.pt"))


def test_an_untrained_decoder_is_not_judged(tmp_path):
    rae = tiny_rae()
    save_tensors(tmp_path / "decoder.pt", decoder_to_official(rae.decoder.state_dict()))
    data = [{"image": torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)} for _ in range(3)]
    check_decoder(rae, data, str(tmp_path / "decoder.pt"))
    check_decoder(rae, [], None)
