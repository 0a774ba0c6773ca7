"""Fixed chunks: same rows, same order, one shape for the network."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from unirae.core.exact import exact_float32, in_chunks, rechunk


@given(sizes=st.lists(st.integers(0, 9), max_size=8), size=st.integers(1, 7))
def test_rechunk_keeps_rows_and_order(sizes, size):
    rows = torch.arange(sum(sizes))
    chunks = list(rechunk(rows.split(sizes) if sizes else [], size))
    assert [row for chunk in chunks for row in chunk.tolist()] == rows.tolist()
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(1 <= len(chunk) <= size for chunk in chunks[-1:])


@given(count=st.integers(1, 20), size=st.integers(1, 7))
def test_in_chunks_shows_the_function_one_shape(count, size):
    seen = set()

    def double(chunk):
        seen.add(tuple(chunk.shape))
        return chunk * 2

    rows = torch.arange(count * 3).view(count, 3)
    assert torch.equal(in_chunks(double, rows, size), rows * 2)
    assert seen == {(size, 3)}


def test_exact_float32_ends_autocast_and_gradients():
    a = torch.ones(2, 2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16), exact_float32(torch.device("cpu")):
        product = a @ a
    assert product.dtype == torch.float32
    assert not product.requires_grad
