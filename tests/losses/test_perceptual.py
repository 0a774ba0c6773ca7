import pytest
import torch
from torch import nn

from unirae.core.errors import ConfigError
from unirae.losses.perceptual import FeaturePerceptualLoss, LpipsLoss, NoPerceptualLoss


class TwoLayers(nn.Module):
    """A small frozen network with feature maps, like an encoder."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
        self.requires_grad_(False)

    def feature_maps(self, images):
        a = self.first(images)
        return [a, self.second(a.relu())]


class MeanColour(nn.Module):
    """Distance of mean colours: honours the protocol of a perceptual network."""

    def __init__(self):
        super().__init__()
        self.graphs = []

    def features(self, images):
        self.graphs.append(torch.is_grad_enabled())
        return [images.mean(dim=(2, 3))]

    def distance(self, a, b):
        return (a[0] - b[0]).square().sum(dim=1)


def pair():
    torch.manual_seed(1)
    return torch.rand(2, 3, 8, 8).requires_grad_(), torch.rand(2, 3, 8, 8)


def test_feature_loss_is_the_mean_over_layers_of_squared_direction_differences():
    network = TwoLayers()
    recon, target = pair()
    wanted = []
    for a, b in zip(network.feature_maps(recon), network.feature_maps(target), strict=True):
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
        wanted.append((2 - 2 * (a * b).sum(1)).mean())  # ‖a − b‖² of unit vectors
    loss = FeaturePerceptualLoss(feature_maps=network.feature_maps)(recon, target)
    torch.testing.assert_close(loss, (wanted[0] + wanted[1]) / 2)
    last = FeaturePerceptualLoss(feature_maps=network.feature_maps, layers=[-1])
    torch.testing.assert_close(last(recon, target), wanted[1])


def test_feature_loss_is_zero_on_equal_images_and_falls_along_its_gradient():
    loss = FeaturePerceptualLoss(feature_maps=TwoLayers().feature_maps)
    recon, target = pair()
    assert loss(target, target) == 0
    before = loss(recon, target)
    (gradient,) = torch.autograd.grad(before, recon)
    assert loss(recon - 0.1 * gradient / gradient.norm(), target) < before


def test_feature_loss_does_not_own_the_network():
    loss = FeaturePerceptualLoss(feature_maps=TwoLayers().feature_maps)
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_a_layer_that_does_not_exist_is_named():
    loss = FeaturePerceptualLoss(feature_maps=TwoLayers().feature_maps, layers=[0, 2])
    with pytest.raises(ConfigError, match=r"\[0, 2\].*2 feature maps"):
        loss(*pair())


def test_lpips_loss_is_the_mean_distance_and_needs_no_graph_of_the_target():
    network = MeanColour()
    recon, target = pair()
    loss = LpipsLoss(network=network)(recon, target)
    wanted = (recon.mean((2, 3)) - target.mean((2, 3))).square().sum(1).mean()
    torch.testing.assert_close(loss, wanted)
    assert network.graphs == [False, True]


def test_none_is_zero():
    assert NoPerceptualLoss()(*pair()) == 0
