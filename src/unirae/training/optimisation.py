"""One update of one network: gradients → average over processes → unscale → clip → step."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import AdamW, Optimizer

from unirae.core.distributed import all_mean_
from unirae.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW's numbers (recipe's table)."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float


def build_adamw(parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> AdamW:
    """AdamW over the parameters that require gradients; the fused kernel."""
    trained = [p for p in parameters if p.requires_grad]
    return AdamW(
        trained,
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=all(p.device.type in ("cpu", "cuda", "mps") for p in trained),
    )


class Updater:
    """Owns how one network is updated. The optimizer's state is all that it keeps: lr is a function of the count."""

    def __init__(
        self, optimizer: Optimizer, *, schedule: Schedule, clip_grad: float, scaler: GradScaler | None
    ) -> None:
        self.optimizer, self.schedule, self.clip_grad, self.scaler = optimizer, schedule, clip_grad, scaler
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

    @property
    def loss_scale(self) -> Tensor | float:
        """What losses are multiplied by before their gradients are taken (fp16); 1 elsewhere."""
        return self.scaler.scale(torch.ones((), device=self.parameters[0].device)) if self.scaler else 1.0

    def zero_grad(self) -> None:
        """Forget the gradients, once per update: micro-batches add up."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, update: int, optimizer_step: Any = None) -> Tensor:
        """Apply the accumulated gradients as update number ``update``; returns their norm before clipping.

        Gradients are averaged over processes while still scaled, so that an overflow on one process is seen by
        all and every process skips together.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        all_mean_(gradients)
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True) if gradients else torch.zeros(())
        if self.clip_grad > 0:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_grad, norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr(update)
        (optimizer_step or self._plain_step)()
        return norm

    def _plain_step(self) -> None:
        if self.scaler:
            self.scaler.step(self.optimizer)
        else:
            self.optimizer.step()
