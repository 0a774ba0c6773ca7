import math

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from unirae.training.optimisation import OptimizerSettings, Updater, build_adamw
from unirae.training.schedule import Schedule

SETTINGS = OptimizerSettings(lr=0.1, betas=(0.9, 0.95), weight_decay=0.0)
SCHEDULE = Schedule(kind="linear", base_lr=0.1, final_lr=0.0, warmup_steps=0, decay_end_steps=10)


def updater(network: nn.Module, *, clip_grad: float = 0.0, scaler: GradScaler | None = None) -> Updater:
    optimizer = torch.optim.SGD(network.parameters(), lr=99.0)  # its own rate must not matter
    return Updater(optimizer, schedule=SCHEDULE, clip_grad=clip_grad, scaler=scaler, micro_batches=1)


def network_with_gradient(*gradients: float) -> nn.Module:
    network = nn.ParameterList([torch.zeros(1) for _ in gradients])
    for parameter, gradient in zip(network, gradients, strict=True):
        parameter.grad = torch.tensor([gradient])
    return network


def weights(network: nn.Module) -> list[float]:
    return [parameter.item() for parameter in network.parameters()]


def test_the_rate_is_a_function_of_the_update():
    network = network_with_gradient(1.0)
    update = updater(network)
    update.step(5)
    assert weights(network) == pytest.approx([-0.05])
    update.step(0)
    assert weights(network) == pytest.approx([-0.15])


@pytest.mark.parametrize(("clip", "factor"), [(0.0, 1.0), (2.5, 0.5), (100.0, 1.0)])
def test_clipping_scales_the_whole_gradient_and_reports_its_norm_before(clip, factor):
    network = network_with_gradient(3.0, 4.0)
    norm = updater(network, clip_grad=clip).step(0)
    assert norm.item() == pytest.approx(5.0)
    assert weights(network) == pytest.approx([-0.3 * factor, -0.4 * factor], rel=1e-5)


@pytest.mark.parametrize("clip", [2.5, 100.0])
def test_the_fused_kernel_clips_as_torch_does(clip):
    """Updates of gradients of several norms, some within the limit, against clipping first and the plain AdamW."""
    generator = torch.Generator().manual_seed(0)
    fused, plain = (nn.ParameterList([torch.ones(40), torch.ones(3, 5)]) for _ in range(2))
    update = Updater(
        build_adamw(fused.parameters(), SETTINGS),
        schedule=SCHEDULE,
        clip_grad=clip,
        scaler=None,
        micro_batches=1,
    )
    adamw = torch.optim.AdamW(plain.parameters(), betas=SETTINGS.betas, weight_decay=0.0, foreach=False)
    for step, scale in enumerate((1.0, 100.0, 0.01)):
        for a, b in zip(fused, plain, strict=True):
            a.grad = scale * torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), clip)
        adamw.param_groups[0]["lr"] = SCHEDULE.lr(step)
        adamw.step()
        assert update.step(step).item() == pytest.approx(norm.item())
        assert update.optimizer.grad_scale is None  # whoever steps next is not scaled
        for a, b in zip(fused, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
            torch.testing.assert_close(a.grad, b.grad)  # what callbacks would see


def test_zero_grad_forgets_and_parameters_without_gradient_are_left_alone():
    network = network_with_gradient(3.0, 4.0)
    update = updater(network)
    update.zero_grad()
    network[0].grad = torch.tensor([2.0])
    assert update.step(0).item() == pytest.approx(2.0)
    assert weights(network) == pytest.approx([-0.2, 0.0])


def test_an_update_without_any_gradient_has_norm_zero():
    network = network_with_gradient(1.0)
    update = updater(network)
    update.zero_grad()
    assert update.step(0).item() == 0.0
    assert weights(network) == [0.0]


def test_fp16_gradients_are_unscaled_before_the_norm_and_the_clip():
    scaler = GradScaler("cpu", init_scale=1024.0)
    network = network_with_gradient(0.0, 0.0)
    update = updater(network, clip_grad=2.5, scaler=scaler)
    loss = 3.0 * network[0] + 4.0 * network[1]
    (loss * update.loss_scale).sum().backward()
    assert network[0].grad.item() == 3072.0
    assert update.step(0).item() == pytest.approx(5.0)
    assert weights(network) == pytest.approx([-0.15, -0.2], rel=1e-5)


def test_an_overflow_skips_the_update_and_lowers_the_scale():
    scaler = GradScaler("cpu", init_scale=1024.0)
    network = network_with_gradient(0.0, 0.0)
    update = updater(network, clip_grad=1.0, scaler=scaler)
    assert update.loss_scale.item() == 1024.0
    network[0].grad.fill_(math.inf)
    assert not update.step(0).isfinite()
    scaler.update()
    assert weights(network) == [0.0, 0.0]
    assert update.loss_scale.item() == 512.0


def test_two_networks_share_a_scaler_and_only_the_overflowing_one_skips():
    scaler = GradScaler("cpu", init_scale=4.0)
    good, bad = network_with_gradient(4.0), network_with_gradient(math.nan)
    updaters = [updater(network, scaler=scaler) for network in (good, bad)]
    for each in updaters:
        _ = each.loss_scale
    for each in updaters:
        each.step(0)
    scaler.update()
    assert weights(good) == pytest.approx([-0.1])
    assert weights(bad) == [0.0]


def test_adamw_takes_the_settings_and_only_what_is_trained():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    optimizer = build_adamw(network.parameters(), SETTINGS)
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in network[0].parameters()]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.1, (0.9, 0.95), 0.0)
