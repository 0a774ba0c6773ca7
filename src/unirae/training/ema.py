"""Exponential moving average of trained weights, with a warm-up that makes it useful in short runs."""

import copy

import torch
from torch import nn

from unirae.core.sharding import own_part


class Ema(nn.Module):
    """A frozen copy of ``source`` that follows it: average ← d·average + (1 − d)·source after every update.

    A constant decay of 0.9995 still holds a third of the random initialisation after 2,000 updates (recipe,
    trap 14), so the decay warms up: after n updates d = min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, source: nn.Module, *, decay: float, warmup: bool = True) -> None:
        super().__init__()
        self.average = copy.deepcopy(source).eval().requires_grad_(False)
        self.decay, self.warmup = decay, warmup

    def decay_at(self, updates: int) -> float:
        """The decay used for update number ``updates`` (from 0)."""
        return min(self.decay, (1 + updates) / (10 + updates)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, source: nn.Module, updates: int) -> None:
        """Move the average towards ``source``: one fused operation over all parameters; buffers are copied.

        Of sharded networks each process moves its part.
        """
        weight = 1.0 - self.decay_at(updates)
        mine, theirs = ([own_part(p) for p in network.parameters()] for network in (self.average, source))
        torch._foreach_lerp_(mine, theirs, weight)
        for mine, theirs in zip(self.average.buffers(), source.buffers(), strict=True):
            mine.copy_(theirs)

    def train(self, mode: bool = True) -> "Ema":
        """Stay in eval mode, whatever mode the module around has."""
        return super().train(False)
