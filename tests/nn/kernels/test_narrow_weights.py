"""Copies of frozen weights in 16 bits: the same numbers as autocast's own casts, and nothing left behind."""

import pytest
import torch
from torch import nn

from unirae.models.denoisers.dit_dh import DiTDH
from unirae.nn.kernels.narrow_weights import NarrowWeights
from unirae.nn.lpips import build_lpips


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


def test_originals_in_a_file_are_the_same_weights():
    network = build_lpips("random")
    a, b = torch.rand(2, 2, 3, 32, 32)
    expected = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    narrow = NarrowWeights(network)
    with autocast():
        narrow.map_originals()
        with narrow.in_use():
            copy = network.vgg[0].weight
            distance = network(a, b)
        with narrow.in_use():
            assert network.vgg[0].weight is copy
        assert torch.equal(distance, network(a, b))
    assert len(narrow.mapped) == 26
    assert narrow.mapped[0] is network.vgg[0].weight
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    assert network.vgg[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_changed_weight_in_a_file_is_cast_again():
    layer = nn.Linear(4, 4).requires_grad_(False)
    narrow = NarrowWeights(layer)
    with autocast():
        narrow.map_originals()
        layer.load_state_dict({"weight": torch.full((4, 4), 2.0), "bias": torch.zeros(4)})
        with narrow.in_use():
            assert (layer.weight == 2.0).all()
    assert (layer.weight == 2.0).all()


def test_nothing_is_moved_in_32_bits_or_where_no_file_can_be(tmp_path, monkeypatch, caplog):
    layer = nn.Linear(4, 4).requires_grad_(False)
    address = layer.weight.data_ptr()
    narrow = NarrowWeights(layer)
    narrow.map_originals()
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path / "file"))
    with autocast():
        assert not narrow.mapped
        narrow.map_originals()
        with narrow.in_use():
            assert layer.weight.dtype == torch.bfloat16
    assert "stay in memory" in caplog.text
    assert not narrow.mapped
    assert layer.weight.data_ptr() == address


def test_an_error_inside_puts_the_weights_back():
    layer = nn.Linear(4, 4).requires_grad_(False)
    weight = layer.weight
    with pytest.raises(ZeroDivisionError), autocast(), NarrowWeights(layer).in_use():
        1 / 0  # noqa: B018
    assert layer.weight is weight
