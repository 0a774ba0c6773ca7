"""A disk that is full in the middle of a run: one line, and what was whole stays whole."""

import resource
from functools import partial
from pathlib import Path

import pytest
from test_resume import assert_same_run, run

from live import Live
from tiny_training import TINY
from unirae.core.io import load_tensors

RUN = ("trainer.max_steps=6", "callbacks.model_checkpoint.every_n_train_steps=2")


def full_after_the_first_checkpoint(limit: int) -> None:
    """From then on no file of this process grows beyond ``limit`` bytes: the system refuses as a full disk does."""
    from unirae.training.callbacks.model_checkpoint import ModelCheckpoint

    original = ModelCheckpoint._save

    def save(self, *args):
        original(self, *args)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    ModelCheckpoint._save = save


@pytest.mark.parametrize("tensorboard", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_was_saved_stays_whole(tmp_path, tensorboard):
    folder, limit = tmp_path / "run", 20_000
    words = [*TINY["stage1"], *RUN, f"paths.output_dir={folder}", f"logger.tensorboard={tensorboard}"]
    live = Live("train", *words, folder=tmp_path, before=partial(full_after_the_first_checkpoint, limit))
    assert live.end(120) == 2, live.output
    assert "Traceback" not in live.output
    what = "a file" if tensorboard else folder / "checkpoints/last.ckpt"  # its events are flushed before
    assert live.last_line().startswith(f"error: cannot write {what}: File too large. Free some space")
    assert not any(Path(folder).rglob("*.tmp"))
    last = folder / "checkpoints/last.ckpt"
    assert load_tensors(last)["global_step"] == 2
    run(folder, "stage1", *RUN, checkpoint=last)
    run(tmp_path / "whole", "stage1", *RUN)
    assert_same_run(folder, tmp_path / "whole")
