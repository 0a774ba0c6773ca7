"""Stage 0: pretraining of a small encoder as a masked autoencoder."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from unirae.app.run import builders
from unirae.app.run.builders import Config
from unirae.app.run.stages.base import Stage
from unirae.data.mix import Mixed
from unirae.models.checkpoints.reading import Checkpoint
from unirae.models.encoders.grid import check_divisible
from unirae.models.encoders.hf import refuse_unknown
from unirae.training.datamodule import TrainingData
from unirae.training.mae import EncoderExport, MaePretraining
from unirae.training.manual import ManualModule


class MaeStage(Stage):
    """The stage ``model.stage=mae``: the encoder is exported at the end, in transformers' format."""

    name = "mae"

    def build(
        self, cfg: Config, trainer: pl.Trainer, checkpoint: Checkpoint | None, **own: Any
    ) -> tuple[ManualModule, TrainingData]:
        """See :meth:`.base.Stage.build`."""
        data = builders.build_data(cfg, size=cfg["model"]["architecture"]["image_size"], trainer=trainer)
        return build_mae(cfg, steps_per_epoch=data.steps_per_epoch), data

    def callbacks(self, cfg: Config, *, output_dir: Path, data: TrainingData) -> list[pl.Callback]:
        """See :meth:`.base.Stage.callbacks`."""
        train = data.train_dataset
        source = train.source if isinstance(train, Mixed) else data.eval_dataset.source
        return [EncoderExport(folder=output_dir, data=source.name, seed=cfg["seed"])]


def build_mae(cfg: Config, *, steps_per_epoch: int) -> MaePretraining:
    """The training module of stage 0.

    Raises:
        ConfigError: If images do not split into patches, or if the architecture has a key that such a model lacks.
    """
    from transformers import ViTMAEConfig

    model, sizes = cfg["model"], cfg["model"]["architecture"]
    refuse_unknown(sizes, ViTMAEConfig(), node="model.architecture")
    check_divisible("model.architecture.image_size", sizes["image_size"], sizes["patch_size"])
    return MaePretraining(
        architecture=model["architecture"],
        visible_weight=model["visible_weight"],
        pixel_mean=tuple(model["pixel_mean"]),
        pixel_std=tuple(model["pixel_std"]),
        settings=builders.step_settings(cfg, steps_per_epoch=steps_per_epoch),
    )
