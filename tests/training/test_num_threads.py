"""The threads that a run computes with: measured once, recorded, kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tiny_training import TINY
from unirae import train
from unirae.app.run import trainer as app_trainer


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def run(folder: Path, *overrides: str) -> int:
    """The number in the run's configuration."""
    train([*TINY["stage1"], f"paths.output_dir={folder}", *overrides])
    return yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["num_threads"]


def busy(monkeypatch: pytest.MonkeyPatch, answer: int) -> list[int]:
    asked: list[int] = []

    def fastest(every: int) -> int:
        asked.append(every)
        return answer

    monkeypatch.setattr(app_trainer, "fastest_num_threads", fastest)
    return asked


def test_a_run_measures_once_and_a_resumed_one_keeps_the_answer(tmp_path, monkeypatch):
    asked = busy(monkeypatch, 1)
    assert run(tmp_path / "run", "trainer.max_steps=1") == 1
    assert asked == [2]
    assert torch.get_num_threads() == 2  # the caller's
    busy(monkeypatch, 2)
    assert run(tmp_path / "run", "trainer.max_steps=2", "ckpt_path=last") == 1


def test_a_number_is_taken_as_it_is(tmp_path, monkeypatch):
    asked = busy(monkeypatch, 1)
    used: list[Any] = []
    monkeypatch.setattr(torch, "set_num_threads", lambda number: used.append(number))
    assert run(tmp_path, "trainer.max_steps=1", "trainer.num_threads=3") == 3
    assert asked == []
    assert used[0] == 3


@pytest.mark.parametrize(("device", "processes"), [("cpu", 2), ("cuda", 1)])
def test_only_one_process_on_a_cpu_measures(monkeypatch, device, processes):
    asked = busy(monkeypatch, 1)
    monkeypatch.setattr(app_trainer, "_device_type", lambda accelerator: device)
    settings = {"num_threads": "auto", "accelerator": "auto"}
    assert app_trainer.resolve_num_threads(settings, None, processes=processes) == 2
    assert asked == []
