"""Attention, block and positions against independent implementations."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unirae.core.errors import ConfigError
from unirae.nn.attention import SelfAttention
from unirae.nn.block import Block
from unirae.nn.positions import sincos_positions


@torch.no_grad()
def test_attention_equals_torch_multihead_attention():
    torch.manual_seed(0)
    ours = SelfAttention(width=12, num_heads=3)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight.copy_(ours.qkv.weight)
    theirs.in_proj_bias.copy_(ours.qkv.bias.normal_())
    theirs.in_proj_bias.copy_(ours.qkv.bias)
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="width=10 must be divisible by num_heads=4"):
        SelfAttention(width=10, num_heads=4)


@torch.no_grad()
def test_block_is_pre_norm_and_residual():
    block = Block(width=8, num_heads=2, mlp_width=16, norm_eps=1e-12)
    nn.init.zeros_(block.attention.out.weight)
    nn.init.zeros_(block.attention.out.bias)
    nn.init.zeros_(block.mlp.contract.weight)
    nn.init.zeros_(block.mlp.contract.bias)
    x = 100 * torch.randn(2, 3, 8)
    assert torch.equal(block(x), x)


def test_positions_equal_maes():
    from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

    rows_first = build_2d_sinusoidal_position_embedding(4, 4, embed_dim=16)
    torch.testing.assert_close(sincos_positions(16, (4, 4)), rows_first.roll(8, dims=1))


@given(rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_positions_of_any_grid_put_columns_first(rows: int, columns: int):
    grid = sincos_positions(8, (rows, columns)).unflatten(0, (rows, columns))
    column_part, row_part = grid[..., :4], grid[..., 4:]
    assert torch.equal(column_part, column_part[:1].expand_as(column_part))
    assert torch.equal(row_part, row_part[:, :1].expand_as(row_part))
    torch.testing.assert_close(column_part[0, :, 0], torch.arange(columns).float().sin())
    assert len(grid.flatten(0, 1).unique(dim=0)) == rows * columns


def test_positions_need_a_width_of_four_parts():
    with pytest.raises(ConfigError, match="divisible by 4"):
        sincos_positions(10, (2, 2))
