"""16-bit training under manual optimisation: our updaters drive the gradient scaler, Lightning only steps."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch.plugins.precision import MixedPrecision
from torch.optim import Optimizer


class ManualMixedPrecision(MixedPrecision):
    """Lightning's mixed precision without its own unscaling, which would run twice beside gradient clipping.

    :class:`~unirae.training.optimisation.Updater` unscales and clips; the training module calls
    ``scaler.update()`` once a step, after both networks.
    """

    def optimizer_step(
        self, optimizer: Optimizer, model: Any, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        """Step, skipping where the scaler found an overflow."""
        closure()
        return self.scaler.step(optimizer, **kwargs) if self.scaler else optimizer.step(**kwargs)
