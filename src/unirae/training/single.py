"""The step of a stage that trains one network by one loss: stage 0 and stage 2."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unirae.nn.parameter_groups import ParameterGroups
from unirae.training.ema import Ema
from unirae.training.manual import ManualModule, MeanTerms
from unirae.training.optimisation import Updater


class SingleNetwork(ManualModule):
    """Base of the modules that train one network: micro-batches add up; then clip, step, average the weights, log."""

    ema: Ema
    """The average that is evaluated and shown."""
    updater: Updater

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The network that the optimizer updates."""

    @abstractmethod
    def parameter_groups(self) -> ParameterGroups:
        """The parameters of :attr:`trained`, matrices and others."""

    @property
    def computing(self) -> list[nn.Module]:
        """The networks that compute: the trained one, and those that it learns from."""
        return [self.trained, *self.frozen]

    @property
    def averages(self) -> Iterable[Ema]:
        """Running averages of :attr:`trained`."""
        return (self.ema,)

    @abstractmethod
    def split(self, batch: dict[str, Tensor]) -> Iterator[Any]:
        """The micro-batches of a batch."""

    @abstractmethod
    def loss(self, part: Any, terms: MeanTerms) -> Float[Tensor, ""]:
        """The loss that is minimised, over one micro-batch; its parts are added to ``terms``."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Train one step: loss, update, averages, log."""
        step, terms = self.global_step, MeanTerms()
        self.updater.zero_grad()
        for part in self.split(batch):
            loss = self.loss(part, terms)
            self.updater.backward(loss * self.updater.loss_scale)
        terms.add(grad_norm=self.updater.step(step, self.step_optimizer()))
        for average in self.averages:
            average.update(self.trained, step)
        if self.scaler:
            self.scaler.update()
        self.log_terms({**terms.means(), "lr": self.schedule.lr(step)})

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build one optimizer over everything that is trained: Lightning counts its steps."""
        optimizer = self.settings.optimizer.build(self.parameter_groups())
        self.updater = self.updater_of(optimizer, self.schedule, self.settings.clip_grad)
        return [optimizer]
