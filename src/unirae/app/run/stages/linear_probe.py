"""The linear probe: a linear classifier trained on the features of a frozen encoder, with augmented images."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from unirae.app.inputs.labels import check_labels
from unirae.app.run import builders
from unirae.app.run.builders import Config, keys_for
from unirae.app.run.stages.base import Stage, scoring
from unirae.data.dataset import ImageDataset
from unirae.data.mix import Mixed
from unirae.evaluation.probe.features import PooledEncoder, check_classes
from unirae.evaluation.probe.linear_probe import TOP5_CLASSES
from unirae.models.checkpoints.reading import Checkpoint
from unirae.models.encoders.base import Encoder
from unirae.models.rae import as_size, token_grid
from unirae.training.callbacks.scoring import ProbeAccuracy
from unirae.training.datamodule import TrainingData
from unirae.training.linear_probe import LinearProbe
from unirae.training.manual import ManualModule


class LinearProbeStage(Stage):
    """The stage ``model.stage=linear_probe``."""

    name = "linear_probe"
    own_parts = ("encoder",)
    reads = ("probe_accuracy",)

    def build(
        self,
        cfg: Config,
        trainer: pl.Trainer,
        checkpoint: Checkpoint | None,
        *,
        encoder: Encoder | None = None,
        **own: Any,
    ) -> tuple[ManualModule, TrainingData]:
        """See :meth:`.base.Stage.build`."""
        data = builders.build_data(cfg, size=cfg["model"]["image_size"], trainer=trainer)
        module = build_linear_probe(cfg, data, encoder=encoder)
        check_labels(checkpoint, module.class_names, accept=cfg["ckpt_other_labels"])
        return module, data

    def callbacks(self, cfg: Config, *, output_dir: Path, data: TrainingData) -> list[pl.Callback]:
        """See :meth:`.base.Stage.callbacks`."""
        accuracy = ProbeAccuracy(batch_size=cfg["callbacks"]["probe_accuracy"]["batch_size"])
        return [scoring(cfg, "probe_accuracy", accuracy, output_dir=output_dir, data=data)]

    def score_names(self, cfg: Config, module: ManualModule | None = None) -> list[str]:
        """See :meth:`.base.Stage.score_names`."""
        few = isinstance(module, LinearProbe) and len(module.class_names) < TOP5_CLASSES
        return ["val/top1"] if few else ["val/top1", "val/top5"]


def build_linear_probe(cfg: Config, data: TrainingData, *, encoder: Encoder | None = None) -> LinearProbe:
    """The training module, of the configured encoder or of the one that is given.

    Raises:
        DataError: If the data have no labels, or only one class.
    """
    model = cfg["model"]
    for dataset in (data.train_dataset, data.eval_dataset):
        assert isinstance(dataset, ImageDataset | Mixed)
        check_classes(dataset)
    encoder = encoder or builders.configured_encoder(model, seed=cfg["seed"])
    with keys_for(encoder_input_size="model.image_size", pooling="model.pooling"):
        # refuses what does not divide before it costs time
        token_grid(model["image_size"], encoder.patch_size)
        network = PooledEncoder(encoder, model["pooling"])
    return LinearProbe(
        network=network,
        input_size=as_size(model["image_size"]),
        class_names=data.eval_dataset.source.class_names,
        settings=builders.step_settings(cfg, steps_per_epoch=data.steps_per_epoch),
    )
