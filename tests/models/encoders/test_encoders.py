"""Every kind of encoder: shapes, frozenness, the norm, randomness with a seed, identity."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_models import TINY_ARCHITECTURES, tiny_encoder
from unirae.core.errors import ConfigError, WeightsError
from unirae.models.encoders.base import Encoder
from unirae.models.encoders.build import build_encoder, encoder_from_identity
from unirae.models.encoders.identity import EncoderIdentity
from unirae.nn.kernels.block_compiler import repeated_blocks
from unirae.nn.kernels.narrow_weights import NarrowWeights

KINDS = list(TINY_ARCHITECTURES)


@pytest.fixture(scope="module", params=KINDS)
def encoder(request) -> Encoder:
    return tiny_encoder(request.param)


@torch.no_grad()
def test_tokens_form_a_grid_and_are_normalised(encoder: Encoder):
    tokens = encoder(torch.rand(2, 3, 32, 32))
    assert tokens.shape == (2, encoder.width, 4, 4)
    # LayerNorm without affine: each token has mean 0 and variance 1 over its channels
    torch.testing.assert_close(tokens.mean(1), torch.zeros(2, 4, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens.var(1, unbiased=False), torch.ones(2, 4, 4), atol=1e-2, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_any_size_of_whole_patches_works(kind: str, rows: int, columns: int):
    encoder = _CACHE.setdefault(kind, tiny_encoder(kind))
    images = torch.rand(1, 3, 8 * rows, 8 * columns)
    with torch.no_grad():
        assert encoder(images).shape == (1, encoder.width, rows, columns)
        assert [tuple(m.shape[2:]) for m in encoder.feature_maps(images)] == [(rows, columns)] * 2


_CACHE: dict[str, Encoder] = {}


@torch.no_grad()
def test_a_token_lies_where_its_patch_lies(encoder: Encoder):
    # Attention spreads a change everywhere, but in a tiny random network most of it stays at its place.
    images = torch.rand(1, 3, 32, 48)
    changed = images.clone()
    changed[:, :, 8:16, 32:40] = 1 - changed[:, :, 8:16, 32:40]
    difference = (encoder.feature_maps(changed)[0] - encoder.feature_maps(images)[0]).norm(dim=1)[0]
    assert divmod(int(difference.argmax()), 6) == (1, 4)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_its_blocks_compile_without_a_break(kind: str):
    torch._dynamo.reset()
    encoder, images = tiny_encoder(kind), torch.rand(2, 3, 32, 32)
    wanted, blocks = encoder(images), repeated_blocks(encoder)
    assert len(blocks) == 2
    for block in blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(encoder(images), wanted, rtol=1e-4, atol=1e-5)


def test_frozen_whatever_happens(encoder: Encoder):
    parent = torch.nn.ModuleList([encoder]).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert len(list(parent.parameters())) > 0


def test_feature_maps_pass_gradients_to_the_images(encoder: Encoder):
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    maps = encoder.feature_maps(images)
    assert len(maps) == 2
    sum(m.square().mean() for m in maps).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_last_feature_map_is_the_token_before_its_norm(encoder: Encoder):
    images = torch.rand(1, 3, 32, 32)
    last = encoder.feature_maps(images)[-1].movedim(1, -1)
    normed = torch.nn.functional.layer_norm(last, (encoder.width,)).movedim(-1, 1)
    torch.testing.assert_close(normed, encoder(images), atol=1e-2, rtol=0)


@pytest.mark.parametrize(("size", "message"), [((33, 32), "image height=33"), ((32, 4), "image width=4")])
def test_sizes_that_do_not_divide_are_refused(encoder: Encoder, size: tuple[int, int], message: str):
    with pytest.raises(ConfigError, match=f"{message} must be divisible by patch_size=8; nearest valid: "):
        encoder(torch.rand(1, 3, *size))


@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_follow_from_the_seed_and_leave_the_generator_alone(kind: str):
    state = torch.get_rng_state()
    first, again, other = tiny_encoder(kind), tiny_encoder(kind), tiny_encoder(kind, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.identity == again.identity
    assert first.identity.sha256 != other.identity.sha256


@torch.no_grad()
def test_narrow_weights_give_autocasts_bits_and_are_put_back(encoder: Encoder):
    images = torch.rand(2, 3, 32, 32)
    before = {name: (tensor, tensor.clone()) for name, tensor in encoder.state_dict(keep_vars=True).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = encoder(images)
        with NarrowWeights(encoder).in_use():
            assert any(p.dtype == torch.bfloat16 for p in encoder.parameters())
            assert torch.equal(encoder(images), expected)
    after = encoder.state_dict(keep_vars=True)
    assert all(after[name] is tensor and torch.equal(tensor, copy) for name, (tensor, copy) in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedded_encoder_comes_back_from_a_checkpoint(kind: str):
    encoder = tiny_encoder(kind, seed=3, mean=(0.1, 0.2, 0.3))
    stored = json.loads(json.dumps(encoder.identity.to_dict()))
    again = encoder_from_identity(EncoderIdentity.from_dict(stored), encoder.state_dict())
    assert again.identity == encoder.identity
    images = torch.rand(1, 3, 24, 32)
    assert torch.equal(again(images), encoder(images))


def test_an_embedded_encoder_needs_its_own_tensors():
    encoder = tiny_encoder()
    with pytest.raises(WeightsError, match="should be inside"):
        encoder_from_identity(encoder.identity)
    with pytest.raises(WeightsError, match="1 missing"):
        encoder_from_identity(encoder.identity, dict(list(encoder.state_dict().items())[1:]))
    with pytest.raises(WeightsError, match="sha256"):
        encoder_from_identity(encoder.identity, tiny_encoder(seed=1).state_dict())


def test_meta_device_builds_nothing():
    with torch.device("meta"):
        encoder = tiny_encoder()
    assert all(parameter.is_meta for parameter in encoder.parameters())
    assert encoder.identity.sha256 == ""


def test_bad_configuration_is_explained():
    with pytest.raises(ConfigError, match="choose one of dinov2, dinov3, siglip2"):
        build_encoder(kind="resnet", name="x")
    with pytest.raises(ConfigError, match=r"needs architecture"):
        build_encoder(kind="mae", name="x", weights="random")
    with pytest.raises(
        ConfigError, match=r"architecture\.hiden_size: vit_mae has no such key; did you mean hidden_size"
    ):
        build_encoder(kind="mae", name="x", weights="random", architecture={"hiden_size": 3})
    with pytest.raises(ConfigError, match=r"architecture\.foo: vit_mae has no such key; it has .*mask_ratio"):
        build_encoder(kind="mae", name="x", weights="hub", architecture={"foo": 3})  # which are not asked for
    with pytest.raises(ConfigError, match="three numbers"):
        tiny_encoder(mean=(0.5,))


def test_a_network_that_is_no_plain_vit_is_refused():
    swin = {"model_type": "swin", "image_size": 32, "patch_size": 4, "window_size": 4}
    swin |= {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2]}
    encoder = build_encoder(kind="generic_hf", name="swin", weights="random", architecture=swin)
    with pytest.raises(ConfigError, match="not a plain ViT"):
        encoder(torch.rand(1, 3, 32, 32))


def test_a_new_mae_knows_where_its_patches_are():
    # transformers 5 leaves the fixed positions of a ViTMAE that is built from a configuration at zero
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    from unirae.models.encoders.mae import fill_sincos_positions
    from unirae.nn.positions import sincos_positions

    architecture = {
        "image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "decoder_hidden_size": 8, "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16,
    }  # fmt: skip
    mae = ViTMAEForPreTraining(ViTMAEConfig(**architecture))
    fill_sincos_positions(mae)
    assert torch.equal(mae.vit.embeddings.position_embeddings[0, 1:], sincos_positions(16, (4, 4)))
    assert torch.equal(mae.decoder.decoder_pos_embed[0, 1:], sincos_positions(8, (4, 4)))

    encoder = build_encoder(kind="mae", name="tiny", weights="random", architecture=architecture)
    images = torch.rand(1, 3, 32, 32)
    same_patch_everywhere = images[..., :8, :8].repeat(1, 1, 4, 4)
    tokens = encoder(same_patch_everywhere)
    assert not torch.allclose(tokens[..., 0, 0], tokens[..., 3, 3])
