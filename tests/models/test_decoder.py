"""The ViT decoder: shapes, order of pixels, interpolation, checkpointing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_models import tiny_decoder
from unirae.models.decoder import ViTDecoder
from unirae.nn.positions import sincos_positions


@settings(max_examples=10, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 5), patch=st.integers(1, 4))
def test_output_is_patch_size_times_the_grid(rows: int, columns: int, patch: int):
    decoder = tiny_decoder(grid=(rows, columns), patch_size=patch)
    assert decoder(torch.randn(2, 16, rows, columns)).shape == (2, 3, rows * patch, columns * patch)
    assert decoder.output_size == (rows * patch, columns * patch)


@torch.no_grad()
def test_pixels_lie_in_the_order_h_p_w_q_c():
    decoder = tiny_decoder(grid=(2, 3), patch_size=4)
    patches = torch.randn(1, 6, 48)
    image = decoder._unpatchify(patches)
    for token, row, column, y, x, channel in [(0, 0, 0, 0, 1, 2), (5, 1, 2, 3, 0, 0), (1, 0, 1, 2, 3, 1)]:
        expected = patches[0, token, (y * 4 + x) * 3 + channel]
        assert image[0, channel, row * 4 + y, column * 4 + x] == expected


@torch.no_grad()
def test_tokens_of_another_grid_are_interpolated_bilinearly():
    decoder = tiny_decoder(grid=(4, 6))
    tokens = torch.randn(2, 16, 2, 3)
    resized = torch.nn.functional.interpolate(tokens, (4, 6), mode="bilinear", align_corners=False)
    assert torch.equal(decoder(tokens), decoder(resized))


def test_positions_start_as_sin_cos_and_are_trained():
    decoder = tiny_decoder(grid=(2, 5))
    assert torch.equal(decoder.positions[0, 0], torch.zeros(24))
    torch.testing.assert_close(decoder.positions[0, 1:], sincos_positions(24, (2, 5)))
    decoder(torch.randn(1, 16, 2, 5)).square().mean().backward()
    untrained = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert untrained == []


def test_last_layer_is_the_linear_before_the_pixels():
    decoder = tiny_decoder(patch_size=4)
    assert decoder.last_layer.shape == (48, 24)
    assert dict(decoder.named_parameters())["to_pixels.weight"] is decoder.last_layer


def test_deblocking_starts_as_nothing_and_then_sees_across_the_borders_of_patches():
    plain, correcting = tiny_decoder(), tiny_decoder(deblocking=8)
    correcting.load_state_dict(plain.state_dict(), strict=False)
    tokens = torch.randn(1, 16, 4, 4)
    assert torch.equal(correcting(tokens), plain(tokens))
    assert correcting.last_layer is correcting.deblocking.mix.weight
    torch.nn.init.normal_(correcting.last_layer)
    pixels = torch.zeros(1, 3, 16, 16, requires_grad=True)
    correcting.deblocking(pixels)[0, 0, 0, 3].backward()  # the last column of the first patch
    assert bool(pixels.grad[0, :, 0, 4].any())
    groups = correcting.parameter_groups()
    assert {id(p) for p in correcting.deblocking.parameters()} <= {id(p) for p in groups.others}
    assert ViTDecoder(**correcting.architecture).corrects


def test_gradient_checkpointing_changes_no_number():
    plain, saving = tiny_decoder(), tiny_decoder(gradient_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    tokens = torch.randn(2, 16, 4, 4)
    for decoder in (plain, saving):
        decoder(tokens).square().mean().backward()
    for p, q in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_architecture_rebuilds_the_decoder():
    decoder = tiny_decoder(grid=(2, 3))
    again = ViTDecoder(**decoder.architecture)
    again.load_state_dict(decoder.state_dict())
    tokens = torch.randn(1, 16, 2, 3)
    assert torch.equal(again(tokens), decoder(tokens))


@pytest.mark.parametrize(("patch_size", "millions"), [(14, 86.30), (16, 86.44)])
def test_vit_b_has_its_size(patch_size: int, millions: float):
    with torch.device("meta"):
        decoder = ViTDecoder(
            token_dim=768,
            width=768,
            depth=12,
            num_heads=12,
            mlp_width=3072,
            patch_size=patch_size,
            grid=(16, 16),
        )
    assert round(sum(p.numel() for p in decoder.parameters()) / 1e6, 2) == millions
