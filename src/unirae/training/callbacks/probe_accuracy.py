"""Accuracy of a linear probe on the validation split while training."""

from typing import Any

import lightning.pytorch as pl
import torch

from unirae.core.version import __version__
from unirae.data.dataset import ImageDataset
from unirae.data.source_content import recorded
from unirae.evaluation.passes.reading import Progress
from unirae.evaluation.probe.features import Features, extract_features
from unirae.evaluation.probe.linear_probe import accuracies
from unirae.training.events import evaluation_data
from unirae.training.linear_probe import LinearProbe


class ProbeAccuracy:
    """Accuracy of the averaged head on the validation split.

    The encoder is frozen and validation images are not augmented, so their features are computed once.

    Args:
        batch_size: images read at once; no score depends on it.
    """

    def __init__(self, *, batch_size: int) -> None:
        self.batch_size = batch_size
        self._features: Features | None = None

    def prepare(self, trainer: pl.Trainer, module: LinearProbe) -> str:
        """Nothing is loaded: the encoder is the module's."""
        return f"{len(evaluation_data(trainer))} images"

    @torch.no_grad()
    def score(self, trainer: pl.Trainer, module: LinearProbe, progress: Progress) -> dict[str, Any]:
        """Classify the validation split."""
        data = evaluation_data(trainer)
        if self._features is None:
            self._features = extract_features(
                module.network,
                data,
                batch_size=self.batch_size,
                device=module.device,
                num_workers=trainer.datamodule.num_workers,  # pyright: ignore[reportAttributeAccessIssue]
                progress=progress,
            )
        values = self._features.values.to(module.head.linear.weight)
        logits = module.ema.average(values).float().cpu()
        metrics, uncertainty = accuracies(logits, self._features.labels)
        about = {"step": trainer.global_step, "weights": "EMA", **describe(trainer, module)}
        return {"metrics": metrics, "uncertainty": uncertainty, "count": len(data), "settings": about}


def describe(trainer: pl.Trainer, module: LinearProbe) -> dict[str, Any]:
    """Encoder and data, as ``eval_linear_probe.py`` records them; so the two can be compared."""
    training, validation = trainer.datamodule.train_dataset, evaluation_data(trainer)  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(training, ImageDataset)
    crop = type(validation.transform)
    return {
        "input_size_px": module.input_size[0],
        "crop": f"{crop.__module__}.{crop.__qualname__}",
        "data": validation.source.name,
        "fingerprints": {"train": recorded(training.source), "val": recorded(validation.source)},
        "training_images": len(training),
        "num_classes": len(module.class_names),
        "feature_width": module.network.width,
        "features": module.network.identity,
        "device": module.device.type,
        "versions": {"unirae": __version__, "torch": str(torch.__version__)},
    }
