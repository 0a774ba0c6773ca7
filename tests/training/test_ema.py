import pytest
import torch
from torch import nn

from unirae.training.ema import Ema


def noisy_updates(ema: Ema, source: nn.Module, count: int) -> list[torch.Tensor]:
    """Give the source new weights and update, ``count`` times; the source's weights from the start on."""
    seen = [source.weight.detach().clone()]
    for update in range(count):
        source.weight.data = torch.randn_like(source.weight)
        ema.update(source, update)
        seen.append(source.weight.detach().clone())
    return seen


def test_average_is_the_recurrence_written_out():
    torch.manual_seed(0)
    source = nn.Linear(3, 2)
    ema = Ema(source, decay=0.5)
    seen = noisy_updates(ema, source, 20)
    average = seen[0]
    for n, weight in enumerate(seen[1:]):
        decay = min(0.5, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(ema.average.weight, average)
    assert ema.decay_at(0) == 0.1
    assert ema.decay_at(7) < 0.5
    assert ema.decay_at(8) == 0.5


def test_without_warm_up_the_decay_is_constant():
    source = nn.Linear(3, 2)
    ema = Ema(source, decay=0.9, warmup=False)
    first, second = noisy_updates(ema, source, 1)
    torch.testing.assert_close(ema.average.weight, 0.9 * first + 0.1 * second)


@pytest.mark.parametrize("decay", [0.9978, 0.9995])
def test_warm_up_forgets_the_initialisation_of_a_short_run(decay):
    source = nn.Linear(1, 1)
    nn.init.constant_(source.weight, 1.0)
    ema = Ema(source, decay=decay)
    nn.init.zeros_(source.weight)
    for update in range(300):
        ema.update(source, update)
    assert ema.average.weight.item() < 1e-6  # a constant decay leaves 0.52 and 0.86


def test_average_is_apart_frozen_and_in_eval_mode():
    source = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    ema = Ema(source, decay=0.9)
    ema.train()
    assert not any(module.training for module in ema.modules())
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    nn.init.constant_(source[0].weight, 7.0)
    assert not (ema.average[0].weight == 7.0).any()


def test_buffers_are_copied():
    source = nn.BatchNorm1d(2)
    ema = Ema(source, decay=0.9)
    source.running_mean.fill_(3.0)
    ema.update(source, 0)
    assert (ema.average.running_mean == 3.0).all()
