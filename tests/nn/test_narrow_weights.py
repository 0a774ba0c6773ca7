"""Copies of frozen weights in 16 bits: the same numbers as autocast's own casts, and nothing left behind."""

import pytest
import torch
from torch import nn

from unirae.models.dit_dh import DiTDH
from unirae.nn.lpips import build_lpips
from unirae.nn.narrow_weights import NarrowWeights


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def test_gradients_through_a_frozen_network_are_the_same():
    network = build_lpips("random")
    a, b = torch.rand(2, 3, 32, 32).requires_grad_(), torch.rand(2, 3, 32, 32)
    narrow = NarrowWeights(network)
    gradients = []
    for context in (narrow.in_use(), NarrowWeights().in_use()):
        with autocast(), context:
            gradients.append(torch.autograd.grad(network(a, b).sum(), a)[0])
    assert torch.equal(*gradients)
    assert gradients[0].abs().sum() > 0


def test_a_denoiser_keeps_its_time_in_32_bits():
    torch.manual_seed(0)
    sizes = {"hidden_size": [16, 24], "depth": [1, 1], "num_heads": [2, 2]}
    dit = DiTDH(input_size=2, in_channels=8, num_classes=3, **sizes).requires_grad_(False)
    nn.init.normal_(dit.output.linear.weight)
    inputs = torch.randn(2, 8, 2, 2), torch.tensor([0.2, 0.9]), torch.tensor([0, 3])
    with autocast():
        expected = dit(*inputs)
        with NarrowWeights(dit).in_use():
            assert dit.time_embed.expand.weight.dtype == torch.float32
            assert torch.equal(dit(*inputs), expected)


def test_trained_layers_and_full_precision_are_left_alone():
    layer = nn.Linear(4, 4)
    narrow = NarrowWeights(layer, None)
    with narrow.in_use():
        assert layer.weight.dtype == torch.float32
    with autocast(), narrow.in_use():
        assert layer.weight.dtype == torch.float32  # trained
    with torch.no_grad(), autocast(), narrow.in_use():
        assert layer.weight.dtype == torch.bfloat16
        nn.init.ones_(layer.weight)  # of the copy
    assert not torch.equal(layer.weight, torch.ones(4, 4))


def test_a_changed_weight_is_cast_again():
    layer = nn.Linear(4, 4).requires_grad_(False)
    narrow = NarrowWeights(layer)
    for value in (1.0, 2.0):
        layer.weight.fill_(value)
        with autocast(), narrow.in_use():
            assert (layer.weight == value).all()
        with autocast(), narrow.in_use():
            first = layer.weight
        with autocast(), narrow.in_use():
            assert layer.weight is first


def test_an_error_inside_puts_the_weights_back():
    layer = nn.Linear(4, 4).requires_grad_(False)
    weight = layer.weight
    with pytest.raises(ZeroDivisionError), autocast(), NarrowWeights(layer).in_use():
        1 / 0  # noqa: B018
    assert layer.weight is weight
