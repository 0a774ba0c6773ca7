import copy
import math

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from unirae.core.errors import ConfigError
from unirae.nn.parameter_groups import group_parameters
from unirae.training.mae import MaePretraining
from unirae.training.manual import StepSettings
from unirae.training.optimisation import Updater
from unirae.training.optimizers import AdamWSettings, optimizer_settings
from unirae.training.schedule import Schedule

SETTINGS = AdamWSettings(lr=0.1, betas=(0.9, 0.95), weight_decay=0.0)
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
        SETTINGS.build(group_parameters(fused, edges=("1",))),
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
    optimizer = SETTINGS.build(group_parameters(network))
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in network[0].parameters()]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.1, (0.9, 0.95), 0.0)


def test_groups_with_rates_of_their_own_follow_the_schedule_in_proportion():
    network = network_with_gradient(1.0, 1.0)
    groups = [{"params": [network[0]]}, {"params": [network[1]], "initial_lr": 0.02}]
    update = Updater(
        torch.optim.SGD(groups, lr=99.0), schedule=SCHEDULE, clip_grad=0.0, scaler=None, micro_batches=1
    )
    for step, factor in ((0, 1.0), (5, 0.5), (8, 0.2)):
        before = weights(network)
        update.step(step)
        moved = [b - a for a, b in zip(weights(network), before, strict=True)]
        assert moved == pytest.approx([0.1 * factor, 0.02 * factor], rel=1e-4)


def test_rates_are_the_configurations_whatever_a_checkpoint_says():
    network = network_with_gradient(1.0)
    optimizer = torch.optim.SGD([{"params": [network[0]], "initial_lr": 0.02}], lr=99.0)
    update = Updater(optimizer, schedule=SCHEDULE, clip_grad=0.0, scaler=None, micro_batches=1)
    state = optimizer.state_dict()
    state["param_groups"][0] |= {"initial_lr": 7.0, "lr": 7.0}
    optimizer.load_state_dict(state)
    update.step(0)
    assert weights(network) == pytest.approx([-0.02])


def trained_on(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Updates as they were made before there were groups: one rate for all, set from outside."""
    for step in steps:
        give_gradients(network, step)
        for group in optimizer.param_groups:
            group["lr"] = SCHEDULE.lr(step)
        optimizer.step()


def give_gradients(network: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_a_state_from_before_there_were_groups_continues_to_the_same_bits():
    """The state of matrices and others in one group, in the order in which the network registers them."""
    torch.manual_seed(0)
    before = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 2))
    old = torch.optim.AdamW(before.parameters(), lr=0.1, betas=(0.9, 0.95), weight_decay=0.3, fused=True)
    trained_on(before, old, range(3))
    now, state = copy.deepcopy(before), copy.deepcopy(old.state_dict())
    trained_on(before, old, range(3, 6))

    settings = AdamWSettings(lr=0.1, betas=(0.9, 0.95), weight_decay=0.3)
    optimizer = settings.build(group_parameters(now, edges=("0", "3")))
    update = Updater(optimizer, schedule=SCHEDULE, clip_grad=0.0, scaler=None, micro_batches=1)
    optimizer.load_state_dict(state)
    for step in range(3, 6):
        give_gradients(now, step)
        update.step(step)
    for a, b in zip(before.parameters(), now.parameters(), strict=True):
        assert torch.equal(a, b)
    assert optimizer.state_dict()["param_groups"] == old.state_dict()["param_groups"]


def test_optimizers_are_known_by_name():
    arguments = {"lr": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.0}
    assert optimizer_settings(**arguments) == optimizer_settings(kind="adamw", **arguments) == SETTINGS
    with pytest.raises(ConfigError, match=r"^kind='lion' is unknown; choose one of adamw, muon$"):
        optimizer_settings(kind="lion", **arguments)


def test_the_matrices_of_stage_0_lie_between_its_first_and_last_layer():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    decoder = {f"decoder_{name}": size for name, size in sizes.items()}
    module = MaePretraining(
        architecture=sizes | decoder | {"image_size": 16, "patch_size": 8, "norm_pix_loss": False},
        visible_weight=0.0,
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.5, 0.5, 0.5),
        settings=StepSettings(
            optimizer=SETTINGS,
            schedule=SCHEDULE,
            ema_decay=0.9,
            ema_warmup=True,
            clip_grad=0.0,
            seed=0,
            micro_batches=1,
        ),
    )
    groups = module.parameter_groups()
    shapes = sorted(tuple(parameter.shape) for parameter in groups.matrices)
    # query, key, value and output of both networks, and the layer between them; up and down
    assert shapes == [(8, 8)] * 9 + [(8, 12)] * 2 + [(12, 8)] * 2
    assert [id(p) for p in groups.trained] == [id(p) for p in module.mae.parameters() if p.requires_grad]
