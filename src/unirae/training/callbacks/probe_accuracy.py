"""Accuracy of a linear probe on the validation split while training."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from unirae.core.distributed import is_main
from unirae.core.io import write_json
from unirae.core.log import get_logger
from unirae.core.version import __version__
from unirae.data.content import recorded
from unirae.data.dataset import ImageDataset
from unirae.evaluation.probe.features import Features, extract_features
from unirae.evaluation.probe.linear_probe import accuracies
from unirae.training.callbacks.after_step import AfterStep
from unirae.training.events import evaluation_data, is_due, publish_scores
from unirae.training.linear_probe import LinearProbe

log = get_logger(__name__)


class ProbeAccuracy(AfterStep):
    """Scores the averaged head every N steps, and once at the end; writes ``eval/step-*.json``.

    The encoder is frozen and validation images are not augmented, so their features are computed once.

    Args:
        folder: where the JSON files go.
        every_n_steps: interval in steps; null means at the end only.
        batch_size: images read at once; no score depends on it.
    """

    def __init__(self, *, folder: str | Path, every_n_steps: int | None, batch_size: int) -> None:
        self.folder, self.every_n_steps, self.batch_size = Path(folder), every_n_steps, batch_size
        self._features: Features | None = None

    def is_due_now(self, trainer: pl.Trainer) -> bool:
        """When it is time, and after the last step."""
        step = trainer.global_step
        return is_due(step, self.every_n_steps) or step == trainer.max_steps

    @torch.no_grad()
    def work(self, trainer: pl.Trainer, module: LinearProbe) -> None:
        """Classify the split and publish the scores."""
        module.guard.check(module.last_checkpoint)  # its message names the step and the terms
        data, step = evaluation_data(trainer), trainer.global_step
        if self._features is None:
            self._features = extract_features(
                module.network,
                data,
                batch_size=self.batch_size,
                device=module.device,
                num_workers=trainer.datamodule.num_workers,  # pyright: ignore[reportAttributeAccessIssue]
                progress=self.leave_if_asked,
            )
        values = self._features.values.to(module.head.linear.weight)
        logits = module.ema.average(values).float().cpu()
        metrics, uncertainty = accuracies(logits, self._features.labels)
        if is_main():
            about = {"step": step, "weights": "EMA", **describe(trainer, module)}
            content = {"metrics": metrics, "uncertainty": uncertainty, "count": len(data), "settings": about}
            log.info("step %d: %s", step, ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
            write_json(self.folder / f"step-{step:07d}.json", content)
        publish_scores(trainer, module, {f"val/{name}": value for name, value in metrics.items()})


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
