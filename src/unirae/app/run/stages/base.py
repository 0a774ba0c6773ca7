"""A stage of training: its module and data, its callbacks, its scores. Each stage is one object in a file.

``assembly.assemble`` puts a run together from it. The callbacks of every stage are in ``trainer.build_callbacks``, the
settings of optimizer and schedule in ``builders.step_settings``.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl

from unirae.app.run.builders import Config
from unirae.core.errors import ConfigError
from unirae.models.checkpoints.reading import Checkpoint
from unirae.training.callbacks.scoring import Evaluator, Scoring
from unirae.training.datamodule import TrainingData
from unirae.training.manual import ManualModule

EVERY_STAGE_READS = ("model_checkpoint", "health_check")
"""Keys of ``callbacks`` that every stage reads."""


class Stage(ABC):
    """One stage of training.

    Attributes:
        name: the value of ``model.stage``, and the kind of the stage's checkpoints.
        own_parts: the parts that a caller from Python may bring, as :class:`~unirae.app.run.own_parts.OwnParts` names
            them; :meth:`build` takes them by these names.
        reads: the keys below ``callbacks`` that the stage reads, beside those of every stage.
        scored_by: the key below ``callbacks`` with the stage's metrics and the sources of their networks, if any.
        monitor: the score that ``best.ckpt`` goes by where the user chose none.
        shards: True where ``trainer.strategy=fsdp`` can shard the stage's network.
    """

    name: ClassVar[str]
    own_parts: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[tuple[str, ...]] = ()
    scored_by: ClassVar[str | None] = None
    monitor: ClassVar[str | None] = None
    shards: ClassVar[bool] = False

    def check(self, cfg: Config) -> None:
        """Refuse what the configuration alone shows to be wrong, before data or weights are looked for."""
        return

    @abstractmethod
    def build(
        self, cfg: Config, trainer: pl.Trainer, checkpoint: Checkpoint | None, **own: Any
    ) -> tuple[ManualModule, TrainingData]:
        """The training module and its data.

        Args:
            cfg: the configuration of the run, resolved.
            trainer: the trainer, which knows the device and the processes.
            checkpoint: the checkpoint that the run continues, whose weights replace all others; None for a new run.
            own: the caller's parts in place of configured ones, by the names in ``own_parts``.
        """

    @abstractmethod
    def callbacks(self, cfg: Config, *, output_dir: Path, data: TrainingData) -> list[pl.Callback]:
        """The callbacks that watch this stage alone: samples and scores."""

    def score_names(self, cfg: Config, module: ManualModule | None = None) -> list[str]:
        """The names under which the stage's runs log their scores, such as ``val/psnr``.

        Args:
            module: the training module, which knows the encoder and the classes; without a module, ``*`` stands for
                their names.
        """
        return []

    def says_nothing_to(self, keys: list[str]) -> list[str]:
        """The given keys of ``callbacks`` that another stage reads and this one does not."""
        read = [f"callbacks.{key}" for key in (*self.reads, *EVERY_STAGE_READS)]
        asked = [key for key in keys if key.startswith("callbacks.")]
        return [key for key in asked if not any(f"{key}.".startswith(f"{known}.") for known in read)]


def scoring(cfg: Config, key: str, evaluator: Evaluator, *, output_dir: Path, data: TrainingData) -> Scoring:
    """The callback that scores a run, at intervals in steps or in epochs; where both are null, at the end only.

    Args:
        key: below ``callbacks``, where the interval is.

    Raises:
        ConfigError: If an interval is given both in steps and in epochs.
    """
    steps, epochs = cfg["callbacks"][key]["every_n_steps"], cfg["callbacks"][key]["every_n_epochs"]
    if steps is not None and epochs is not None:
        raise ConfigError(f"callbacks.{key}: set every_n_steps or every_n_epochs, and the other to null")
    every_n_steps = steps if epochs is None else max(1, round(epochs * data.steps_per_epoch))
    return Scoring(evaluator, folder=output_dir / "eval", every_n_steps=every_n_steps)
