"""The allocator is told what to keep once, after the first step."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from tiny_training import fit, tiny_config
from unirae.app.run.training import train
from unirae.core import hardware
from unirae.training.callbacks import kept_memory
from unirae.training.callbacks.kept_memory import KeptMemory


def test_it_is_told_once_after_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(kept_memory, "keep_freed_memory", lambda: seen.append("told"))

    class Steps(pl.Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            seen.append(trainer.global_step)

    fit(tiny_config("trainer.max_steps=3", output_dir=tmp_path), callbacks=[KeptMemory(), Steps()])
    assert [one for one in seen if one != "told"] == [0, 1, 2]
    assert seen[:3] == [0, "told", 1]
    assert seen.count("told") == 1


def test_a_run_maps_large_blocks_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(hardware, "map_large_blocks", lambda: told.append("map"))
    monkeypatch.setattr(kept_memory, "keep_freed_memory", lambda: told.append("keep"))
    train(tiny_config("trainer.max_steps=2", output_dir=tmp_path), experiment="tiny", checkpoint=None)
    assert told == ["map", "keep"]
