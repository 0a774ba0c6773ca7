"""NCCL and FSDP on a GPU, with one process of each: the plain run's numbers through the code of several."""

import socket
from pathlib import Path

import pytest
import torch

from gpu.training_runs import saved, terms, train
from unirae.app.run import trainer as app_trainer
from unirae.core.distributed import leave_group
from unirae.training import averaging
from unirae.training.strategy import GradientAveraging, Sharding

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.fixture
def group_of_one(monkeypatch: pytest.MonkeyPatch, device: torch.device):
    """A run takes this strategy, and averages as if there were others."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    build = averaging.OverlappingAverage.__init__

    def with_buckets(self: averaging.OverlappingAverage, *args, **kwargs) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(averaging, "world_size", lambda: 2)
            build(self, *args, **kwargs)

    def use(strategy: type[GradientAveraging]) -> None:
        monkeypatch.setattr(app_trainer, "_check_sharding", lambda *args, **kwargs: None)
        monkeypatch.setattr(
            app_trainer, "_strategy", lambda *args, **kwargs: strategy(process_group_backend=backend)
        )
        monkeypatch.setattr(averaging.OverlappingAverage, "__init__", with_buckets)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    yield use
    leave_group()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("case", ["stage 1", "stage 2"])
def test_gradients_averaged_over_one_process(
    tmp_path: Path, device: torch.device, group_of_one, case: str, precision: str
) -> None:
    train(tmp_path / "plain", case, device, f"trainer.precision={precision}")
    group_of_one(GradientAveraging)
    train(tmp_path / "group", case, device, f"trainer.precision={precision}")
    assert_same(tmp_path / "group", tmp_path / "plain")


@pytest.mark.parametrize("compiled", ["false", "true"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_denoiser_sharded_over_one_process(
    tmp_path: Path, device: torch.device, group_of_one, precision: str, compiled: str
) -> None:
    train(tmp_path / "plain", "stage 2", device, f"trainer.precision={precision}")
    group_of_one(Sharding)
    overrides = (f"trainer.precision={precision}", f"trainer.compile={compiled}")
    train(tmp_path / "group", "stage 2", device, *overrides)
    assert_same(tmp_path / "group", tmp_path / "plain")


def assert_same(found: Path, wanted: Path) -> None:
    losses, plain = terms(found)["train/loss"], terms(wanted)["train/loss"]
    torch.testing.assert_close(losses, plain, rtol=1e-3, atol=0)
    torch.testing.assert_close(saved(found)["state_dict"], saved(wanted)["state_dict"], rtol=1e-2, atol=1e-3)
