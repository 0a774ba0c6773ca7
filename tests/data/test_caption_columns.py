"""Columns of captions: what was named, what counts as text, and how often each caption is drawn."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirae.core.errors import ConfigError
from unirae.data.caption_columns import ColumnCaptions, NoTextError, is_textual, texts_of, weights_of


class Told(ColumnCaptions):
    def __init__(self, weights, found):
        columns = zip(*found, strict=True)
        super().__init__(weights, {name: max(map(len, c)) for name, c in zip(weights, columns, strict=True)})
        self._found = found

    def found(self, index):
        return self._found[index]


def test_weights_add_up_to_one():
    assert weights_of(None) is None
    assert weights_of("text") == {"text": 1.0}
    assert weights_of({"long": 3, "short": 1.0}) == {"long": 0.75, "short": 0.25}


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({}, "name a column"),
        ("", "name a column"),
        (" ", "name a column"),
        ({"a": 1, "": 1}, "name a column"),
        ({"a": 0}, "weight of 'a'"),
        ({"a": 1, "b": -1}, "weight of 'b'"),
        ({"a": math.nan}, "weight of 'a'"),
        ({"a": math.inf}, "weight of 'a'"),
        ({"a": True}, "weight of 'a'"),
        ({"a": "much"}, "weight of 'a'"),
        ({"a": 1e308, "b": 1e308}, "too large"),
    ],
)
def test_columns_that_cannot_be(column, said):
    with pytest.raises(ConfigError, match=f"^caption_column=.*{said}"):
        weights_of(column)


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (None, ()),
        ("", ()),
        (" \t\r\n", ()),
        ("  a cat\r\nand a dog\r\n", ("a cat\nand a dog",)),
        (["a", None, " ", "b "], ("a", "b")),
        ([], ()),
        ("\U0001f408", ("\U0001f408",)),
    ],
)
def test_values_that_hold_captions(value, texts):
    assert texts_of(value) == texts
    assert is_textual(value) == bool(texts)


@pytest.mark.parametrize(
    "value", [0, 1.5, True, {"a": "b"}, b"a", ["a", 0], [False], [["a"]], "\ud800", ["\udcff"]]
)
def test_values_that_are_no_captions(value):
    assert not is_textual(value)
    with pytest.raises(NoTextError):
        texts_of(value)


lists = st.lists(
    st.tuples(*[st.lists(st.sampled_from("abc"), max_size=4).map(tuple)] * 2), min_size=1, max_size=6
)


@given(found=lists, share=st.floats(0.1, 0.9))
def test_each_column_has_its_weight_where_it_has_captions(found, share):
    """However many captions a picture has in it: they share the weight."""
    told = Told({"one": share, "two": 1 - share}, found)
    assert math.isclose(sum(told.weights), 1)
    width = max(max(len(one) for one, _ in found), 1)
    for index, (one, two) in enumerate(found):
        captions, weights = told.captions(index), told.weights_of(index)
        assert len(captions) == len(weights) == len(told.weights)
        assert tuple(c for c in captions[:width] if c) == one
        assert tuple(c for c in captions[width:] if c) == two
        there = [w for c, w in zip(captions[:width], weights[:width], strict=True) if c]
        assert math.isclose(sum(there), share if one else 0)
        assert len(set(there)) <= 1


def test_no_columns():
    told = Told({}, [()])
    assert told.weights == told.captions(0) == told.weights_of(0) == ()
