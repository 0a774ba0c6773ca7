"""The condition of a batch: labels, or tokens with a mask."""

import pytest
import torch

import unirae
from unirae.models.denoisers.condition import Condition


def tokens(count: int, length: int, *, start: float = 1.0) -> Condition:
    values = torch.arange(count * length * 2, dtype=torch.float32).reshape(count, length, 2) + start
    return Condition(tokens=values, mask=torch.ones(count, length, dtype=torch.bool))


def test_it_is_public_and_a_tensor_of_labels_is_one():
    assert unirae.Condition is Condition
    labels = torch.tensor([3, 1])
    condition = Condition.of(labels)
    assert condition.labels is labels
    assert len(condition) == 2
    assert Condition.of(condition) is condition


def test_labels_are_joined_and_chosen():
    one, two = Condition.of(torch.tensor([3, 1])), Condition.of(torch.tensor([7, 7]))
    assert one.cat(two).labels.tolist() == [3, 1, 7, 7]
    assert one.where(torch.tensor([True, False]), two).labels.tolist() == [3, 7]


def test_shorter_tokens_are_filled_up_with_what_does_not_count():
    one, two = tokens(1, 3), tokens(1, 1, start=9.0)
    joined = one.cat(two)
    assert joined.tokens.shape == (2, 3, 2)
    assert joined.mask.tolist() == [[True] * 3, [True, False, False]]
    assert torch.equal(joined.tokens[1], torch.tensor([[9.0, 10.0], [0.0, 0.0], [0.0, 0.0]]))
    chosen = tokens(2, 3).where(torch.tensor([False, True]), two)
    assert chosen.mask.tolist() == [[True, False, False], [True] * 3]
    assert chosen.tokens[0, 0].tolist() == [9.0, 10.0]


def test_only_tokens_change_their_type():
    assert tokens(2, 3).to(dtype=torch.bfloat16).tokens.dtype == torch.bfloat16
    assert tokens(2, 3).to(dtype=torch.bfloat16).mask.dtype == torch.bool
    assert Condition.of(torch.tensor([1])).to("cpu", torch.bfloat16).labels.dtype == torch.int64


def test_what_is_no_condition_is_refused():
    labels = torch.tensor([1])
    for wrong in (
        {},
        {"labels": labels, "tokens": torch.zeros(1, 2, 3), "mask": torch.ones(1, 2, dtype=torch.bool)},
    ):
        with pytest.raises(ValueError, match="labels or tokens, and not both"):
            Condition(**wrong)
    with pytest.raises(ValueError, match="have a mask"):
        Condition(tokens=torch.zeros(1, 2, 3), mask=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="have a mask"):
        Condition(tokens=torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="one condition has labels, the other tokens, mask"):
        Condition.of(labels).cat(tokens(1, 2))
