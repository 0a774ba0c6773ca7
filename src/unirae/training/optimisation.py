"""One update of one network: backward passes → average over processes → unscale → clip → step."""

from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from unirae.core.sharding import is_sharded, whole
from unirae.training.averaging import OverlappingAverage
from unirae.training.schedule import Schedule


class Updater:
    """Owns how one network is updated. The optimizer's state is all that it keeps: lr is a function of the count.

    Args:
        optimizer: its rates are set before each step. A group's ``initial_lr`` (the schedule's ``base_lr`` where it has
            none) is read here, once: like the rate itself it comes from the configuration, not from a checkpoint.
        micro_batches: backward passes per update.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        schedule: Schedule,
        clip_grad: float,
        scaler: GradScaler | None,
        micro_batches: int,
    ) -> None:
        self.optimizer, self.schedule, self.clip_grad, self.scaler = optimizer, schedule, clip_grad, scaler
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.initial_lrs = [group.get("initial_lr", schedule.base_lr) for group in optimizer.param_groups]
        self.micro_batches, self._passes = micro_batches, 0
        self.average = OverlappingAverage(self.parameters)

    @property
    def loss_scale(self) -> Tensor | float:
        """Factor that losses are multiplied by before their gradients are taken (fp16); 1 elsewhere."""
        return self.scaler.scale(torch.ones((), device=self.parameters[0].device)) if self.scaler else 1.0

    def zero_grad(self) -> None:
        """Forget the gradients, once per update: micro-batches add up."""
        self.optimizer.zero_grad(set_to_none=True)
        self._passes = 0

    def backward(self, output: Tensor, gradient: Tensor | None = None) -> None:
        """Add one micro-batch's gradients; the update's last pass sends them to the other processes as they come.

        Args:
            output: a loss times :attr:`loss_scale`, or what ``gradient`` is the gradient of.
        """
        self._passes += 1
        assert self._passes <= self.micro_batches, "gradients that are on their way must not change"
        if self._passes == self.micro_batches:
            self.average.expect_last_pass()
        gradient = torch.ones_like(output) if gradient is None else gradient
        output.backward(gradient / self.micro_batches)

    def step(self, update: int, optimizer_step: Any = None) -> Tensor:
        """Apply the accumulated gradients as update number ``update``; returns their norm before clipping.

        Gradients are averaged over processes while still scaled, so that an overflow on one process is seen by
        all and every process skips together.
        """
        self.average.finish()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True) if gradients else torch.zeros(())
        if self.clip_grad > 0:
            self._clip(norm)
        for group, initial_lr in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = self.schedule.lr_from(initial_lr, update)
        (optimizer_step or self._plain_step)()
        if self.scaler is None:
            self.optimizer.grad_scale = None  # pyright: ignore[reportAttributeAccessIssue]
        return whole(norm)

    def _clip(self, norm: Tensor) -> None:
        """Clip as torch does; where the optimizer's kernel divides as it reads, without a pass over the gradients."""
        if self._kernel_divides_by(norm):
            excess = (norm + 1e-6) / self.clip_grad
            self.optimizer.grad_scale = excess.clamp(min=1.0)  # pyright: ignore[reportAttributeAccessIssue]
        else:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_grad, norm, foreach=True)

    def _kernel_divides_by(self, norm: Tensor) -> bool:
        """Fused kernels do, by one float32 number; with a scaler it is the scaler that sets it."""
        fused = all(group.get("fused") for group in self.optimizer.param_groups)
        fused = fused and norm.device.type in ("cpu", "cuda")
        return fused and norm.dtype == torch.float32 and not is_sharded(norm) and self.scaler is None

    def _plain_step(self) -> None:
        if self.scaler:
            self.scaler.step(self.optimizer)
        else:
            self.optimizer.step()
