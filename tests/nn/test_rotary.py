"""Rotary positions against complex numbers, and what they are for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirae.core.errors import ConfigError
from unirae.nn.positions import RotaryPositions


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 5), quarter=st.integers(1, 4))
def test_equals_complex_rotation(rows: int, columns: int, quarter: int):
    x = torch.randn(2, 3, rows * columns, 4 * quarter)
    frequency = 10_000.0 ** -(torch.arange(quarter) / quarter)
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angle = torch.cat([row.reshape(-1, 1) * frequency, column.reshape(-1, 1) * frequency], 1)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angle), angle)
    wanted = torch.view_as_real(turned).flatten(-2)
    torch.testing.assert_close(
        RotaryPositions(head_width=4 * quarter, grid=(rows, columns))(x), wanted, rtol=1e-4, atol=1e-5
    )


def test_scores_depend_on_the_offset_alone():
    torch.manual_seed(0)
    rotary = RotaryPositions(head_width=8, grid=(4, 6))
    q, k = torch.randn(2, 1, 1, 1, 8)
    scores = (rotary(q.expand(1, 1, 24, 8)) @ rotary(k.expand(1, 1, 24, 8)).mT).reshape(4, 6, 4, 6)
    torch.testing.assert_close(scores[0, 0, 1, 2], scores[2, 3, 3, 5])
    torch.testing.assert_close(scores[1, 4, 0, 1], scores[3, 3, 2, 0])
    assert (scores[0, 0, 1, 2] - scores[0, 0, 2, 1]).abs() > 1e-3


def test_half_precision_is_turned_in_full_and_tables_are_not_saved():
    rotary = RotaryPositions(head_width=8, grid=(2, 2))
    assert rotary(torch.randn(1, 1, 4, 8, dtype=torch.bfloat16)).dtype == torch.float32
    assert not rotary.state_dict()


def test_heads_need_a_width_of_four_parts():
    with pytest.raises(ConfigError, match="head_width=6 must be divisible by 4"):
        RotaryPositions(head_width=6, grid=(2, 2))


def test_tokens_behind_the_grid_are_not_turned():
    x = torch.randn(1, 2, 6, 8)
    rotary = RotaryPositions(head_width=8, grid=(2, 2), num_unturned=2)
    assert torch.equal(rotary(x)[:, :, 4:], x[:, :, 4:])
    assert torch.equal(rotary(x)[:, :, :4], RotaryPositions(head_width=8, grid=(2, 2))(x[:, :, :4]))
