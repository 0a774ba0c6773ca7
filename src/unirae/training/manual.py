"""Base of the training modules: steps that are a function of (seed, step), and manual optimisation.

The non-finite guard stops a run by a NaN before it reaches a checkpoint (recipe, trap 5).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from unirae.core.arguments import argument
from unirae.core.distributed import all_mean_, rank
from unirae.core.errors import ConfigError, NonFiniteError, WeightsError
from unirae.core.images import to_float
from unirae.core.keyed_random import sample_keys
from unirae.core.strict import load_strictly
from unirae.training.events import logs_now
from unirae.training.optimisation import Updater
from unirae.training.optimizers import OptimizerSettings
from unirae.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """The settings of a step that every training module takes, whatever it trains.

    Attributes:
        optimizer, schedule, clip_grad: of the network whose updates are counted.
        ema_decay, ema_warmup: of its average.
        seed: of every random draw.
        micro_batches: parts that a batch goes through the networks in.
    """

    optimizer: OptimizerSettings
    schedule: Schedule
    clip_grad: float
    ema_decay: float
    ema_warmup: bool
    seed: int
    micro_batches: int


@dataclass(frozen=True)
class MicroBatch:
    """The part of a batch that goes through the networks at once."""

    images: Float[Tensor, "b 3 H W"]
    """RGB in [0, 1]."""
    keys: Int64[Tensor, " b"]
    """One key per sample for this step's random draws."""


class ManualModule(pl.LightningModule):
    """Base of the training modules: one call of ``training_step`` is one step, however many micro-batches it has.

    Nothing random is carried from step to step: draws are keyed by (seed, step, sample), and the global
    generators are re-seeded from (seed, step, rank) before each step. So a resumed run needs no saved random
    state, and the step count of the checkpoint is the position in the data.
    """

    kind: ClassVar[str]
    """Kind of the checkpoints that this module writes."""
    scaled_terms: ClassVar[tuple[str, ...]] = ("grad_norm",)
    """Logged terms that fp16's scaled gradients enter."""

    def __init__(self, settings: StepSettings) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings, self.schedule = settings, settings.schedule
        self.seed, self.micro_batches = settings.seed, settings.micro_batches
        self.guard = NonFiniteGuard()
        self.last_terms: dict[str, float] = {}
        self.last_checkpoint: str | None = None

    @property
    def scaler(self) -> GradScaler | None:
        """The fp16 gradient scaler; None in bf16 and fp32."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make the global random state a function of (seed, step, rank)."""
        torch.manual_seed(hash((self.seed, self.global_step, rank())) % 2**63)

    def images(self, batch: dict[str, Tensor]) -> Iterator[MicroBatch]:
        """The micro-batches of a batch of ``{"image": uint8, "index": int64}``, all of one size."""
        for part, keys in self.parts(batch):
            yield MicroBatch(to_float(part["image"]), keys)

    def parts(self, batch: dict[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], Int64[Tensor, " b"]]]:
        """A batch cut into equal micro-batches, each with its samples' keys for this step's random draws."""
        count = len(batch["index"])
        if count % self.micro_batches:
            raise ConfigError(
                f"a batch of {count} cannot be split into {self.micro_batches} equal micro-batches"
            )
        keys = sample_keys(self.seed, self.global_step, batch["index"])
        size = count // self.micro_batches
        for start in range(0, count, size):
            own = slice(start, start + size)
            yield {name: tensor[own] for name, tensor in batch.items()}, keys[own]

    def example(self, sample: dict[str, Any]) -> dict[str, Tensor]:
        """A sample of the data as tensors, whose shapes and types a step's memory depends on."""
        return {name: torch.as_tensor(value) for name, value in sample.items()}

    def state_parts(self) -> dict[str, nn.Module]:
        """The modules that a checkpoint holds: everything trained here, nothing frozen."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Description of the model for a checkpoint, beside the weights; tensors and plain values."""
        raise NotImplementedError

    def networks(self) -> dict[str, nn.Module | None]:
        """The networks that the summary at the start of a run lists; None is left out."""
        raise NotImplementedError

    @property
    def computing(self) -> list[nn.Module]:
        """The networks that a step runs, averages apart."""
        raise NotImplementedError

    @property
    def frozen(self) -> list[nn.Module]:
        """The networks that a step runs and nothing trains, or that have parts of that kind."""
        return []

    def plan(self) -> list[str]:
        """Plan of the run, shown at its start: what will happen when, in steps."""
        raise NotImplementedError

    def cautions(self, max_steps: int) -> list[str]:
        """Warnings at the start of a run: what the user should know before it costs time."""
        return []

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The weights of :meth:`state_parts`, as ``part.name``."""
        return {
            f"{part}.{name}": tensor
            for part, module in self.state_parts().items()
            for name, tensor in module.state_dict().items()
        }

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> None:
        """Load what :meth:`state_dict` gave; strictly, whatever ``strict`` says.

        Raises:
            WeightsError: If a key is missing, unexpected or of another shape.
        """
        parts = self.state_parts()
        unknown = sorted({name.split(".", 1)[0] for name in state_dict} - set(parts))
        if unknown:
            raise WeightsError(
                f"the checkpoint holds {unknown}, which this run does not have; it has {sorted(parts)}"
            )
        for part, module in parts.items():
            prefix = f"{part}."
            own = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
            load_strictly(module, own, what=f"{part} of this configuration")

    def updater_of(self, optimizer: Optimizer, schedule: Schedule, clip_grad: float) -> Updater:
        """The updater of one of the networks, on the run's precision and micro-batches."""
        return Updater(
            optimizer,
            schedule=schedule,
            clip_grad=clip_grad,
            scaler=self.scaler,
            micro_batches=self.micro_batches,
        )

    def step_optimizer(self) -> Callable[[], Any]:
        """The step of the first optimizer, by which Lightning counts ``global_step``."""
        optimizers = self.optimizers()
        return (optimizers[0] if isinstance(optimizers, list) else optimizers).step

    def log_terms(self, terms: dict[str, Tensor | float]) -> None:
        """Show a finished step's scalars to the guard, and every ``log_every_n_steps`` to the loggers.

        Only then do the processes average what they saw, and the host waits for the device. The step logged is the
        number of updates made.
        """
        step = self.global_step
        self.guard.watch(step, self.guarded_terms(terms))
        if logs_now(self.trainer):
            self.guard.check(self.last_checkpoint)
            values = torch.tensor([float(value) for value in terms.values()], device=self.device)
            all_mean_([values])
            self.last_terms = dict(zip(terms, values.tolist(), strict=True))
            for logger in self.trainer.loggers:
                logger.log_metrics({f"train/{name}": value for name, value in self.last_terms.items()}, step)

    def guarded_terms(self, terms: dict[str, Tensor | float]) -> dict[str, Tensor]:
        """The terms that must be finite: all tensors.

        With fp16 not those that scaled gradients enter: their overflow is normal, and the scaler skips such a step.
        """
        tensors = {name: value for name, value in terms.items() if isinstance(value, Tensor)}
        if self.scaler is None:
            return tensors
        return {name: value for name, value in tensors.items() if name not in self.scaled_terms}


class MeanTerms:
    """Adds up the loss terms of micro-batches and gives their means."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, **terms: Tensor) -> None:
        """Add one micro-batch's terms (scalars)."""
        for name, value in terms.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, Tensor]:
        """The mean of each term by name, over the micro-batches that had the term."""
        return {name: total / self._counts[name] for name, total in self._sums.items()}


class NonFiniteGuard:
    """Remembers, on the device, the first step whose terms were not all finite; the host asks when it must.

    Watching costs a few tiny kernels and no synchronisation. ``check`` synchronises: it is called where the
    host waits anyway (logging) and before every checkpoint, so that no bad weights are ever written.
    """

    def __init__(self) -> None:
        # A step's terms change when the GAN starts: one record (first bad step or −1, its values) per set of names.
        self._records: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    def watch(self, step: int, terms: dict[str, Tensor]) -> None:
        """Look at the terms (scalars) of a step."""
        if not terms:
            return
        names, values = tuple(terms), torch.stack([value.detach().float() for value in terms.values()])
        never = torch.full((), -1.0, device=values.device)
        bad_step, bad_values = self._records.get(names, (never, values))
        bad_now = ~torch.isfinite(values).all() & (bad_step < 0)
        self._records[names] = (
            torch.where(bad_now, float(step), bad_step),
            torch.where(bad_now, values, bad_values),
        )

    def check(self, last_good_checkpoint: str | None) -> None:
        """Stop if a watched step was not finite.

        Raises:
            NonFiniteError: If a term of a step was not finite; names the first such step, its terms, and the
                checkpoint to continue from.
        """
        bad = [(int(step), names, values) for names, (step, values) in self._records.items() if step >= 0]
        if not bad:
            return
        step, names, values = min(bad, key=lambda record: record[0])
        terms = ", ".join(f"{n}={v:.4g}" for n, v in zip(names, values.tolist(), strict=True))
        where = (
            f"continue from {last_good_checkpoint}" if last_good_checkpoint else "no checkpoint was saved yet"
        )
        raise NonFiniteError(
            f"step {step} was not finite ({terms}). The last good state: {where}. Lower "
            f"{argument('stage.optimizer.lr')}, set {argument('stage.clip_grad', 1.0)}, or train with "
            f"{argument('training.precision', '32-true')}."
        )
