"""Gradients that are averaged while the backward pass runs: the same as afterwards, and earlier."""

import copy

import pytest
import torch
from torch import Tensor, nn

from processes import run_in_processes
from unirae.core.distributed import all_mean_, rank
from unirae.losses.adaptive_weight import last_layer_gradient_norms
from unirae.training.averaging import OverlappingAverage, grouped
from unirae.training.optimisation import Updater
from unirae.training.schedule import Schedule

SCHEDULE = Schedule(kind="linear", base_lr=0.1, final_lr=0.0, warmup_steps=0, decay_end_steps=10)
SMALL = 16 * 16 * 4  # one layer's weight


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(16, 16) for _ in range(6)))


def images(seed: int) -> Tensor:
    return torch.randn(4, 16, generator=torch.Generator().manual_seed(seed))


def gradients(module: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


def afterwards(micro_batches: int) -> list[Tensor]:
    """The plain way: all passes, then the mean."""
    module = network()
    for part in range(micro_batches):
        module(images(10 * rank() + part)).square().mean().backward()
    found = [p.grad for p in module.parameters()]
    all_mean_(found)
    return found


# --------------------------------------------------------------- buckets


def test_buckets_go_from_the_last_parameter_to_the_first_and_never_exceed_their_size():
    sizes = [3, 30, 2, 4, 4, 1]
    parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
    groups = grouped(parameters, bucket_bytes=10 * 4)
    assert [[p.numel() for p in group] for group in groups] == [[1, 4, 4], [2], [30], [3]]


def test_a_bucket_has_one_type():
    parameters = [nn.Parameter(torch.zeros(1, dtype=dtype)) for dtype in (torch.float32, torch.float64)]
    assert [[p.dtype for p in group] for group in grouped(parameters, 100)] == [
        [torch.float64],
        [torch.float32],
    ]


def test_one_process_sends_nothing():
    module = network()
    average = OverlappingAverage(module.parameters())
    average.expect_last_pass()
    module(images(0)).square().mean().backward()
    before = gradients(module)
    average.finish()
    assert not average.buckets
    for found, wanted in zip(gradients(module), before, strict=True):
        assert torch.equal(found, wanted)


# --------------------------------------------------------------- two processes


def averaged_while_running() -> list[list[Tensor]]:
    wanted = afterwards(micro_batches=3)
    module = network()
    average = OverlappingAverage(module.parameters(), bucket_bytes=SMALL)
    assert len(average.buckets) == 12
    sent_when_the_first_layer_is_reached = []
    module[0].register_full_backward_hook(
        lambda *_: sent_when_the_first_layer_is_reached.append(average.sent)
    )
    rounds = []
    for _ in range(2):  # the second update as the first
        module.zero_grad(set_to_none=True)
        for part in range(3):
            if part == 2:
                average.expect_last_pass()
            module(images(10 * rank() + part)).square().mean().backward()
        sent = average.sent
        average.finish()
        rounds.append(gradients(module))
        assert sent == 12
    # only in an update's last pass, and there before its end: ten of twelve, the first layer's own two not yet
    assert sent_when_the_first_layer_is_reached == [0, 0, 10, 0, 0, 10]
    return [wanted, *rounds]


def test_messages_leave_during_the_last_pass_and_the_mean_is_that_of_afterwards():
    for wanted, *rounds in run_in_processes(averaged_while_running):
        for found in rounds:
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def with_missing_gradients() -> list[Tensor | None]:
    module = network()
    average = OverlappingAverage(module.parameters(), bucket_bytes=2 * SMALL)
    average.expect_last_pass()
    used = [module[i] for i in ((5, 3, 1, 0) if rank() == 0 else (5, 1, 0))]
    torch.stack([layer(images(rank())).square().mean() for layer in used]).sum().backward()
    average.finish()
    return gradients(module)


def test_a_gradient_that_no_process_has_stays_away_and_one_that_some_have_reaches_all():
    first, second = run_in_processes(with_missing_gradients)
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        if index // 2 in (2, 4):
            assert a is None
            assert b is None
        else:
            assert torch.equal(a, b)
    layer = network()[3]
    layer(images(0)).square().mean().backward()
    torch.testing.assert_close(second[6], layer.weight.grad / 2)  # the other process's gradient is 0


def in_opposite_orders() -> list[Tensor]:
    """The layers do not depend on one another; each process walks them in its own order."""
    module = network()
    average = OverlappingAverage(module.parameters(), bucket_bytes=SMALL)
    average.expect_last_pass()
    layers = list(module) if rank() == 0 else list(module)[::-1]
    torch.stack([layer(images(rank())).square().mean() for layer in layers]).sum().backward()
    average.finish()
    return gradients(module)


def test_messages_match_whatever_the_order_of_the_gradients():
    first, second = run_in_processes(in_opposite_orders)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    layer = network()[2]
    for seed in (0, 1):
        layer(images(seed)).square().mean().backward()
    torch.testing.assert_close(first[4], layer.weight.grad / 2)


def norms_of_the_last_layer() -> tuple[int, int, int]:
    module = network()
    average = OverlappingAverage(module.parameters(), bucket_bytes=SMALL)
    average.expect_last_pass()
    output = module(images(rank()))
    last_layer_gradient_norms(output, (torch.ones_like(output),), module[5].weight)
    before = average.sent
    missing = average.buckets[0].missing
    output.sum().backward()
    during = average.sent
    average.finish()
    return before, missing, during


def test_gradients_taken_for_the_adaptive_weight_are_not_sent():
    for found in run_in_processes(norms_of_the_last_layer):
        assert found == (0, 1, 12)


# --------------------------------------------------------------- the updater


def updated(micro_batches: int, clip_grad: float, parts: list[int]) -> dict[str, Tensor]:
    module = network().double()  # Adam divides by the size of a gradient: rounding errors of small ones grow
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    updater = Updater(
        optimizer, schedule=SCHEDULE, clip_grad=clip_grad, scaler=None, micro_batches=micro_batches
    )
    for step in range(3):
        updater.zero_grad()
        for part in parts:
            updater.backward(module(images(100 * step + part).double()).square().mean())
        norm = updater.step(step)
    return {**copy.deepcopy(module).state_dict(), "norm": norm}


WAYS = [(micro_batches, clip_grad) for micro_batches in (1, 2) for clip_grad in (0.0, 0.05)]


def updated_by_halves() -> list[dict[str, Tensor]]:
    return [updated(n, clip_grad, list(range(rank() * n, (rank() + 1) * n))) for n, clip_grad in WAYS]


def test_two_processes_update_as_one():
    results = run_in_processes(updated_by_halves)
    for index, (micro_batches, clip_grad) in enumerate(WAYS):
        one = updated(2 * micro_batches, clip_grad, list(range(2 * micro_batches)))
        for two in results:
            for name, tensor in one.items():
                torch.testing.assert_close(two[index][name], tensor, rtol=0, atol=1e-9)


def test_more_passes_than_announced_are_refused():
    module = network()
    updater = Updater(
        torch.optim.AdamW(module.parameters()), schedule=SCHEDULE, clip_grad=0.0, scaler=None, micro_batches=1
    )
    updater.zero_grad()
    updater.backward(module(images(0)).square().mean())
    with pytest.raises(AssertionError, match="must not change"):
        updater.backward(module(images(0)).square().mean())
