"""Learning rates as a pure function of the number of updates made so far (recipe, table of stage 1 and 2)."""

import math
from dataclasses import dataclass
from typing import Literal

from unirae.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Warm-up, then a decay to ``final_lr``, then constant. Lengths are in updates.

    Update k (counted from 0) of a warm-up of W updates uses base_lr·(k + 1)/W when it starts from zero, else
    base_lr; after it, with p = (k − W)/(D − W), cosine uses final + ½(base − final)(1 + cos πp) and linear
    base − (base − final)·p, until update D.
    """

    kind: Literal["cosine", "linear", "constant"]
    base_lr: float
    final_lr: float
    warmup_steps: int
    decay_end_steps: int
    warmup_from_zero: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ("cosine", "linear", "constant"):
            raise ConfigError(f"scheduler.type={self.kind!r} is unknown; choose cosine, linear or constant")

    def describe(self) -> str:
        """One line for the log."""
        return (
            f"lr {self.base_lr:g}, warm-up {self.warmup_steps} steps, {self.kind} to {self.final_lr:g} at step "
            f"{self.decay_end_steps}"
        )

    def lr(self, update: int) -> float:
        """The learning rate of update number ``update`` (from 0)."""
        if update < self.warmup_steps:
            return self.base_lr * (update + 1) / self.warmup_steps if self.warmup_from_zero else self.base_lr
        if self.kind == "constant":
            return self.base_lr
        if update >= self.decay_end_steps:
            return self.final_lr
        progress = (update - self.warmup_steps) / max(self.decay_end_steps - self.warmup_steps, 1)
        remaining = 1.0 - progress if self.kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.final_lr + (self.base_lr - self.final_lr) * remaining

    def factor(self, update: int) -> float:
        """Factor on the initial value of every learning rate at update number ``update`` (from 0).

        Raises:
            ConfigError: If ``base_lr`` is 0, which has no parts.
        """
        if self.base_lr == 0:
            raise ConfigError(
                "lr=0 cannot be scaled for groups with other learning rates; give a number above 0"
            )
        return self.lr(update) / self.base_lr

    def lr_from(self, initial_lr: float, update: int) -> float:
        """The learning rate at update number ``update`` of parameters whose rate begins at ``initial_lr``.

        It is ``initial_lr * factor(update)``; where it begins at ``base_lr``, :meth:`lr` to the last bit.
        """
        return self.lr(update) if initial_lr == self.base_lr else initial_lr * self.factor(update)


def resolve_steps(*, epochs: float | None, steps: int | None, steps_per_epoch: int, name: str) -> int:
    """A length given in epochs or in steps, as steps; ``steps`` wins nothing: giving both is an error."""
    if steps is not None and epochs is not None:
        raise ConfigError(
            f"{name} is given in epochs ({epochs}) and in steps ({steps}); set one of them to null"
        )
    if steps is not None:
        return steps
    if epochs is None:
        raise ConfigError(f"{name} needs a length: give it in epochs or in steps")
    return int(epochs * steps_per_epoch)
