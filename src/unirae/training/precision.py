"""16-bit training under manual optimisation: our updaters drive the gradient scaler, Lightning only steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.plugins.precision import MixedPrecision
from torch.optim import Optimizer

from unirae.nn.kernels.narrow_weights import NarrowWeights


class ManualMixedPrecision(MixedPrecision):
    """Lightning's mixed precision without its own unscaling, which would run twice beside gradient clipping.

    :class:`~unirae.training.optimisation.Updater` unscales and clips; the training module calls
    ``scaler.update()`` once a step, after both networks. During a step frozen networks compute with 16-bit copies of
    their weights.
    """

    narrow = NarrowWeights()

    def connect(self, model: Any, optimizers: Any, lr_schedulers: Any) -> Any:
        """Learn which of the module's networks are frozen, and keep them in 16 bits alone until someone asks."""
        self.narrow = NarrowWeights(*model.frozen)
        with self.forward_context():
            self.narrow.map_originals()
        return super().connect(model, optimizers, lr_schedulers)

    @contextmanager
    def train_step_context(self) -> Iterator[None]:
        """Autocast, and the frozen networks' narrow weights."""
        with super().train_step_context(), self.narrow.in_use():
            yield

    def optimizer_step(
        self, optimizer: Optimizer, model: Any, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        """Step, skipping where the scaler found an overflow."""
        closure()
        return self.scaler.step(optimizer, **kwargs) if self.scaler else optimizer.step(**kwargs)
