import re

import pytest
import torch

from unirae.core.errors import WeightsError
from unirae.nn.lpips import build_lpips


@pytest.fixture(scope="module")
def network():
    return build_lpips("random", seed=3)


def pair(n=2, size=32):
    torch.manual_seed(0)
    return torch.rand(n, 3, size, size), torch.rand(n, 3, size, size)


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_equals_the_lpips_package_with_the_same_vgg(network):
    import lpips

    theirs = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)  # random VGG, learned heads
    for number in range(1, 6):
        for index, layer in getattr(theirs.net, f"slice{number}").named_children():
            layer.load_state_dict(network.vgg[int(index)].state_dict())
    a, b = pair()
    wanted = theirs(a, b, normalize=True).flatten()
    torch.testing.assert_close(network(a, b), wanted, rtol=1e-5, atol=1e-6)


def test_distance_from_features_is_the_distance(network):
    a, b = pair()
    torch.testing.assert_close(network.distance(network.features(a), network.features(b)), network(a, b))
    assert torch.equal(network(a, a), torch.zeros(2))
    assert network(a, b).min() > 0


def test_is_frozen_and_differentiable_also_where_all_features_vanish(network):
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.train().training
    a, b = pair(1, 16)
    dead = build_lpips("random")
    with torch.no_grad():
        for p in dead.vgg.parameters():
            p.zero_()
    for net in (network, dead):
        images = a.clone().requires_grad_()
        net(images, b).sum().backward()
        assert images.grad.isfinite().all()
    assert network(a, b).isfinite().all()


def test_half_precision_features_are_compared_in_full(network):
    a, b = pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, network(a, b), rtol=0.02, atol=0)


def test_random_weights_follow_the_seed(network):
    a, b = pair()
    assert torch.equal(build_lpips("random", seed=3)(a, b), network(a, b))
    assert not torch.equal(build_lpips("random", seed=4)(a, b), network(a, b))


def test_a_local_file_is_loaded_strictly(network, tmp_path):
    state = {f"features.{k}": v for k, v in network.vgg.state_dict().items()}
    torch.save({**state, "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg.pth")
    a, b = pair()
    assert torch.equal(build_lpips(tmp_path / "vgg.pth")(a, b), network(a, b))
    state.pop("features.28.bias")
    torch.save(state, tmp_path / "vgg.pth")
    with pytest.raises(WeightsError, match=re.escape(str(tmp_path / "vgg.pth")) + r".*28\.bias"):
        build_lpips(tmp_path / "vgg.pth")


def test_tiny_images_are_refused(network):
    with pytest.raises(ValueError, match=r"at least 16 px, got \(8, 8\)"):
        network(*pair(1, 8))


def test_builds_on_the_meta_device():
    with torch.device("meta"):
        assert build_lpips("random").heads[0].is_meta
