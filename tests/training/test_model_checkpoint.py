"""When which checkpoint is written, on a real tiny run."""

from dataclasses import dataclass, field
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from tiny_training import fit, tiny_config
from unirae.core.errors import NonFiniteError
from unirae.core.io import load_tensors
from unirae.training.callbacks.model_checkpoint import ModelCheckpoint


def files(folder: Path) -> dict[str, int]:
    """Checkpoint → the step that it holds."""
    return {path.name: load_tensors(path)["global_step"] for path in folder.iterdir()}


@dataclass
class Scores(pl.Callback):
    """Publishes a score after each step."""

    listener: ModelCheckpoint
    values: list[float]

    def on_train_batch_end(self, trainer, module, *args):
        self.listener.on_scores(trainer, module, {"val/psnr": self.values[trainer.global_step - 1]})


@dataclass
class Poison(pl.Callback):
    """Makes a weight NaN after a step, so that the next step's loss is not finite."""

    step: int
    seen: list[str] = field(default_factory=list)

    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step == self.step:
            with torch.no_grad():
                module.rae.decoder.to_pixels.bias.fill_(torch.nan)


def train(
    tmp_path: Path, checkpoints: ModelCheckpoint, *before: pl.Callback, steps: int = 5, log_every: int = 1
):
    config = tiny_config(
        f"trainer.max_steps={steps}", f"trainer.log_every_n_steps={log_every}", output_dir=tmp_path
    )
    return fit(config, callbacks=[*before, checkpoints])


def test_last_at_intervals_and_at_the_end_numbered_ones_kept(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints = ModelCheckpoint(folder=folder, every_n_train_steps=3, keep_every_n_steps=2)
    train(tmp_path, checkpoints)
    assert files(folder) == {"last.ckpt": 5, "step-0000002.ckpt": 2, "step-0000004.ckpt": 4}


@pytest.mark.parametrize(("mode", "best"), [("max", 4), ("min", 2)])
def test_best_by_a_score(tmp_path, mode, best):
    folder = tmp_path / "checkpoints"
    checkpoints = ModelCheckpoint(folder=folder, every_n_train_steps=None, monitor="val/psnr", mode=mode)
    train(tmp_path, checkpoints, Scores(checkpoints, [2.0, 1.0, 3.0, 5.0, 4.0]))
    assert files(folder) == {"last.ckpt": 5, "best.ckpt": best}


def test_a_resumed_run_remembers_the_best_score(tmp_path):
    folder = tmp_path / "checkpoints"
    first = ModelCheckpoint(folder=folder, every_n_train_steps=None, monitor="val/psnr")
    first.best = 9.0
    second = ModelCheckpoint(folder=folder, every_n_train_steps=7, monitor="val/psnr")
    second.load_state_dict(first.state_dict())
    train(tmp_path, second, Scores(second, [2.0, 8.0, 3.0, 8.9, 4.0]))
    assert files(folder) == {"last.ckpt": 5}


def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints = ModelCheckpoint(folder=folder, every_n_train_steps=2)
    with pytest.raises(NonFiniteError) as error:
        train(tmp_path, checkpoints, Poison(3), steps=8, log_every=100)
    assert "step 4 was not finite (l1=nan" in str(error.value)
    assert f"continue from {folder / 'last.ckpt'}" in str(error.value)
    assert files(folder) == {"last.ckpt": 2}
    assert all(t.isfinite().all() for t in load_tensors(folder / "last.ckpt")["state_dict"].values())
