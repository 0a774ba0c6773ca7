"""Training runs in miniature: 32 synthetic pictures of 32 px, networks of width 32, milliseconds a step."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from unirae.app.config.composition import compose
from unirae.app.run.stages import STAGES
from unirae.app.run.trainer import build_trainer, limit
from unirae.training.manual import ManualModule
from unirae.training.rehearsal import StepMemory, rehearse

_DATA = (
    "data=synthetic",
    "data.source.image_size=32",
    "data.source.train_count=32",
    "data.source.val_count=8",
    "data.source.classes=2",
    "data.global_batch_size=8",
    "data.num_workers=0",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "logger.tensorboard=false",
)
_STAGE1 = (
    "experiment=rae_tiny",
    *_DATA,
    "model.image_size=32",
    "model.encoder.weights=random",
    "model.encoder.architecture.hidden_size=32",
    "model.encoder.architecture.num_hidden_layers=2",
    "model.encoder.architecture.num_attention_heads=2",
    "model.encoder.architecture.intermediate_size=64",
    "model.encoder.architecture.image_size=32",
    "model.encoder.architecture.patch_size=8",
    "model.decoder.patch_size=8",
    "model.decoder.width=32",
    "model.decoder.depth=1",
    "model.decoder.num_heads=2",
    "model.decoder.mlp_width=64",
    "model.perceptual.layers=null",
    "model.discriminator.channels=8",
    "model.discriminator.num_layers=2",
    "model.disc_upd_start_step=1",
    "model.disc_start_step=2",
    "model.disc_weight=0.75",
    "model.scheduler.warmup_steps=2",
    "model.scheduler.decay_end_steps=8",
    "model.disc_scheduler.warmup_steps=2",
    "model.disc_scheduler.decay_end_steps=8",
    "callbacks.reconstruction_metrics.metrics=[psnr]",
)
_MAE = (
    "experiment=mae_tiny",
    *_DATA,
    "model.architecture.image_size=32",
    "model.architecture.patch_size=8",
    "model.architecture.hidden_size=32",
    "model.architecture.num_hidden_layers=2",
    "model.architecture.num_attention_heads=2",
    "model.architecture.intermediate_size=64",
    "model.architecture.decoder_hidden_size=32",
    "model.architecture.decoder_num_hidden_layers=1",
    "model.architecture.decoder_num_attention_heads=2",
    "model.architecture.decoder_intermediate_size=64",
    "model.scheduler.warmup_steps=2",
    "model.scheduler.decay_end_steps=8",
)
_STAGE2 = (
    "experiment=dit_tiny",
    *_DATA,
    "model.rae.pretrained_decoder_path=null",
    "model.rae.decoder_weights=random",
    "model.rae.image_size=32",
    "model.rae.encoder.weights=random",
    "model.rae.encoder.architecture.hidden_size=32",
    "model.rae.encoder.architecture.num_hidden_layers=2",
    "model.rae.encoder.architecture.num_attention_heads=2",
    "model.rae.encoder.architecture.intermediate_size=64",
    "model.rae.encoder.architecture.image_size=32",
    "model.rae.encoder.architecture.patch_size=8",
    "model.rae.decoder.patch_size=8",
    "model.rae.decoder.width=32",
    "model.rae.decoder.depth=1",
    "model.rae.decoder.num_heads=2",
    "model.rae.decoder.mlp_width=64",
    "model.dit.hidden_size=[16,48]",
    "model.dit.depth=[1,1]",
    "model.dit.num_heads=[2,2]",
    "model.scheduler.warmup_steps=2",
    "model.scheduler.decay_end_steps=8",
    "callbacks.samples.count=4",
    "callbacks.generation_metrics.num_samples=8",
    "callbacks.generation_metrics.num_steps=3",
)
_LINEAR_PROBE = (
    "experiment=linear_probe",
    *_DATA,
    "model.image_size=32",
    "model.encoder.weights=random",
    "model.encoder.architecture.hidden_size=32",
    "model.encoder.architecture.num_hidden_layers=2",
    "model.encoder.architecture.num_attention_heads=2",
    "model.encoder.architecture.intermediate_size=64",
    "model.encoder.architecture.image_size=32",
    "model.encoder.architecture.patch_size=8",
    "model.scheduler.warmup_epochs=null",
    "model.scheduler.warmup_steps=2",
    "model.scheduler.decay_end_steps=8",
)
TINY = {"stage1": _STAGE1, "mae": _MAE, "stage2": _STAGE2, "linear_probe": _LINEAR_PROBE}
"""Overrides of the command line that make a stage tiny."""


MIXED = (
    "{data: synthetic, name: few, weight: 1, source: {image_size: 32, train_count: 18, val_count: 8, classes: 2}}",
    "{data: synthetic, name: many, weight: 3, train_transform._target_: unirae.data.transforms.AdmCropFlip, "
    "source: {image_size: 40, train_count: 35, val_count: 10, classes: 3, seed: 5}}",
)
"""Entries of a mix of two sets of pictures."""


def mixed(stage: str, *entries: str) -> list[str]:
    """The words of a tiny run on a mix, by default of :data:`MIXED`, in place of one data set."""
    kept = [word for word in TINY[stage] if not word.startswith(("data=", "data.source."))]
    return [*kept, "data=mix", f"data.sources=[{', '.join(entries or MIXED)}]"]


RAEV2 = (
    "flow.prediction=data",
    "flow.time_mean=-0.3",
    "flow.time_std=1.4",
    "flow.time_max=1",
    "model.base_loss_weight=0.5",
    "model.dit.conditioning=tokens",
    "model.dit.base_head_depth=1",
    "model.dit.train_time_frequencies=true",
)
"""RAEv2's recipe for stage 2, with an early head."""


def tiny_config(*overrides: str, output_dir: Path, stage: str = "stage1") -> dict[str, Any]:
    """The configuration of a tiny run, resolved."""
    return compose([*TINY[stage], f"paths.output_dir={output_dir}", *overrides])


def fit(
    config: dict[str, Any], *, double: bool = False, callbacks: Sequence[pl.Callback] = ()
) -> ManualModule:
    """Train as ``unirae.app.run.assembly`` does, but nothing is written."""
    config = {**config, "logger": {**config["logger"], "csv": False}}
    pl.seed_everything(config["seed"], verbose=False)
    trainer = build_trainer(config, output_dir=Path(config["paths"]["output_dir"]))
    module, data = STAGES[config["model"]["stage"]].build(config, trainer, None)
    if double:
        module.double()
    limit(trainer, max_steps=config["trainer"]["max_steps"])
    trainer.callbacks.extend(callbacks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers and loggers
        trainer.fit(module, datamodule=data)
    return module


def rehearsed(trainer: Any, module: Any) -> StepMemory:
    """The estimate of a run's memory, from its first batch."""
    data = trainer.datamodule
    batch = next(iter(data.batches(rank=0, start_step=0)))
    sample = module.example(data.train_dataset[batch[0]])
    return rehearse(module, trainer.precision_plugin, sample, len(batch))


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state that further training does not change."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}
