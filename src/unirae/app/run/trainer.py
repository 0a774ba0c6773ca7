"""The trainer of a run: precision, strategy, loggers and callbacks from the configuration."""

import os
import warnings
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loops.fit_loop import _FitLoop as FitLoop

from unirae.app.run.builders import Config
from unirae.app.run.deciding import deciding_settings, differing_settings
from unirae.app.run.run_dir import git_commit
from unirae.app.run.score_names import resolve_monitor
from unirae.app.run.stages import STAGES
from unirae.app.run.stages.base import Stage
from unirae.core.errors import ConfigError
from unirae.core.hardware import (
    compiler_problem,
    fastest_float32_matmul,
    fastest_num_threads,
    fastest_precision,
)
from unirae.core.log import get_logger
from unirae.evaluation.health.curve_files import read_curves
from unirae.models.checkpoints.reading import Checkpoint
from unirae.training.callbacks.compiled_blocks import CompiledBlocks
from unirae.training.callbacks.graceful_stop import GracefulStop
from unirae.training.callbacks.health import HealthCheck
from unirae.training.callbacks.kept_memory import KeptMemory
from unirae.training.callbacks.model_checkpoint import ModelCheckpoint, SelfDescription
from unirae.training.callbacks.progress import RunProgress
from unirae.training.checkpoint_io import SafeCheckpointIO
from unirae.training.csv_logger import MetricsCsv
from unirae.training.data_wait import DataWait
from unirae.training.datamodule import TrainingData
from unirae.training.precision import ManualMixedPrecision
from unirae.training.rehearsal import MemoryEstimate
from unirae.training.strategy import GradientAveraging, Sharding
from unirae.training.tensorboard import TensorBoard

log = get_logger(__name__)

_WORTH_COMPILING = 5000
"""Least steps of a run for which the seconds of compiling hardly matter."""
_STRATEGIES = {"ddp": GradientAveraging, "fsdp": Sharding}


def build_trainer(cfg: Config, *, output_dir: Path, checkpoint: Checkpoint | None = None) -> pl.Trainer:
    """Lightning's trainer without its own checkpoints, progress bar and epochs: those are ours.

    Args:
        checkpoint: the checkpoint that the run continues, in memory.
    """
    settings = cfg["trainer"]
    if settings["deterministic"]:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which torch asks for on CUDA
        torch.use_deterministic_algorithms(True)
    accelerator, devices = _device_type(settings["accelerator"]), settings["devices"]
    if devices == "auto":
        devices = torch.cuda.device_count() if accelerator == "cuda" else 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(GPU|MPS) available but not used.*")
        trainer = pl.Trainer(
            accelerator=settings["accelerator"],
            devices=devices,
            num_nodes=settings["num_nodes"],
            strategy=_strategy(cfg, accelerator, processes=devices * settings["num_nodes"]),
            max_epochs=-1,
            max_steps=-1,  # known once the data are: see `limit`
            log_every_n_steps=settings["log_every_n_steps"],
            profiler=_profiler(settings["profiler"], output_dir),
            detect_anomaly=settings["detect_anomaly"],
            plugins=[SafeCheckpointIO(checkpoint), *_precision_plugins(settings["precision"], accelerator)],
            logger=build_loggers(cfg["logger"], output_dir),
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    # Lightning would answer SIGTERM by messages between processes in the middle of a step, and an error after it.
    trainer._signal_connector.register_signal_handlers = lambda: None
    trainer.fit_loop.__class__ = _FitLoop
    return trainer


class _FitLoop(FitLoop):
    """Lightning's loop, but callbacks also begin and end where no step is left: one may have work to catch up on."""

    @property
    def skip(self) -> bool:
        """False: the loop is never skipped."""
        return False


def limit(trainer: pl.Trainer, *, max_steps: int) -> None:
    """Set the length of the run."""
    trainer.fit_loop.epoch_loop.max_steps = max_steps


def build_loggers(settings: Config, output_dir: Path) -> list[Logger]:
    """Build the loggers: CSV and TensorBoard by default, W&B if asked for."""
    loggers: list[Logger] = []
    if settings["csv"]:
        loggers.append(MetricsCsv(output_dir / "csv/metrics.csv"))
    if settings["tensorboard"]:
        loggers.append(TensorBoard(output_dir))
    if settings["wandb"]:
        try:
            from lightning.pytorch.loggers import WandbLogger

            loggers.append(
                WandbLogger(project=settings["project"], save_dir=output_dir, name=output_dir.name)
            )
        except ModuleNotFoundError:
            raise ConfigError("logger.wandb=true needs W&B: pip install wandb") from None
    return loggers


def build_callbacks(
    cfg: Config,
    *,
    stage: Stage,
    output_dir: Path,
    experiment: str,
    data: TrainingData,
    scores: list[str],
) -> list[pl.Callback]:
    """Build the callbacks that watch a run. Order matters: scores before checkpoints, the stop request last.

    Args:
        scores: the names of the scores that the run will have.
    """
    settings = cfg["callbacks"]
    callbacks: list[pl.Callback] = [
        SelfDescription(config=cfg, commit=git_commit()),
        MemoryEstimate(),
        KeptMemory(),
        *([CompiledBlocks()] if cfg["trainer"]["compile"] else []),
        DataWait(),
        RunProgress(label=experiment, images_per_step=cfg["data"]["global_batch_size"]),
    ]
    callbacks += stage.callbacks(cfg, output_dir=output_dir, data=data)
    if (curves := settings["health_check"]["curves"]) is not None:
        healthy = read_curves(curves)
        obstacles = differing_settings(deciding_settings(cfg), healthy.settings)
        callbacks.append(HealthCheck(curves=healthy, obstacles=obstacles))
    keeping = {**settings["model_checkpoint"], **resolve_monitor(cfg, scores, default=stage.monitor)}
    checkpoints = ModelCheckpoint(folder=output_dir / "checkpoints", **keeping)
    return [*callbacks, checkpoints, GracefulStop()]


def _device_type(accelerator: str) -> str:
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("mps", "gpu", "auto") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def _strategy(cfg: Config, device_type: str, *, processes: int) -> GradientAveraging | str:
    name = cfg["trainer"]["strategy"]
    if name == "fsdp":
        _check_sharding(cfg, processes=processes)
    backend = "nccl" if device_type == "cuda" else "gloo"
    return _STRATEGIES[name](process_group_backend=backend) if processes > 1 else "auto"


def _check_sharding(cfg: Config, *, processes: int) -> None:
    """Refuse settings that sharding is not made for, before anything is built."""
    settings, model = cfg["trainer"], cfg["model"]
    if not STAGES[model["stage"]].shards:
        raise ConfigError(
            f"trainer.strategy=fsdp shards the denoiser of stage 2; model.stage={model['stage']} trains small networks "
            "whole on each device: trainer.strategy=ddp"
        )
    if processes == 1:
        raise ConfigError("trainer.strategy=fsdp needs several devices (trainer.devices, trainer.num_nodes)")
    if settings["precision"] == "16-mixed":
        raise ConfigError(
            "trainer.strategy=fsdp trains in 32-true or bf16-mixed; 16-mixed's gradient scaler is ddp's"
        )
    if model["optimizer"].get("kind") == "muon":
        raise ConfigError(
            "model.optimizer.kind=muon makes whole matrices orthogonal, and trainer.strategy=fsdp leaves each process "
            "parts of them: trainer.strategy=ddp, or model.optimizer.kind=adamw"
        )


def resolve_precision(settings: Config, checkpoint: Checkpoint | None) -> str:
    """Resolve ``trainer.precision``; ``auto`` is measured once in a run, and a resumed run keeps the answer."""
    if settings["precision"] != "auto":
        return settings["precision"]
    if checkpoint is not None:
        return checkpoint.config["trainer"]["precision"]
    return fastest_precision(_device_type(settings["accelerator"]))


def resolve_float32_matmul(settings: Config, checkpoint: Checkpoint | None) -> str:
    """Resolve ``trainer.float32_matmul``; ``auto`` is settled once in a run, like the precision."""
    wanted = settings["float32_matmul"]
    if wanted == "auto" and checkpoint is not None:
        before = checkpoint.config["trainer"]
        wanted = before.get("float32_matmul", wanted)  # runs of before this setting lack it
    if wanted == "auto":
        return fastest_float32_matmul(_device_type(settings["accelerator"]))
    return wanted


def resolve_num_threads(settings: Config, checkpoint: Checkpoint | None, *, processes: int) -> int:
    """Resolve ``trainer.num_threads``; ``auto`` is measured once in a run, since another number changes last digits.

    It is PyTorch's own number where the run does not compute on the CPU, and where it has several processes, each of
    which would take the others for the program that holds a core.
    """
    wanted = settings["num_threads"]
    if wanted != "auto":
        return wanted
    if checkpoint is not None and "num_threads" in (before := checkpoint.config["trainer"]):
        return before["num_threads"]  # runs of before this setting lack it
    every = torch.get_num_threads()
    alone_on_cpu = processes == 1 and _device_type(settings["accelerator"]) == "cpu"
    return fastest_num_threads(every) if alone_on_cpu else every


def check_compile(settings: Config, trainer: pl.Trainer) -> None:
    """Refuse an unknown or impossible value of ``trainer.compile``, before anything is built."""
    wanted = settings["compile"]
    if wanted not in ("auto", True, False):
        raise ConfigError(f"trainer.compile={wanted!r} is unknown; choose auto, true or false")
    if wanted is True and (problem := compiler_problem(trainer.strategy.root_device)):
        raise ConfigError(f"trainer.compile=true: torch.compile does not work here ({problem})")


def resolve_compile(settings: Config, trainer: pl.Trainer, *, max_steps: int) -> bool:
    """Resolve ``trainer.compile`` for a run of that length."""
    if settings["compile"] != "auto":
        return settings["compile"]
    if max_steps < _WORTH_COMPILING:
        return False
    if problem := compiler_problem(trainer.strategy.root_device):
        log.warning("blocks run as they are, which is slower: torch.compile does not work here (%s)", problem)
        return False
    return True


def _precision_plugins(
    precision: Literal["32-true", "bf16-mixed", "16-mixed"], device_type: str
) -> list[Any]:
    if precision == "32-true":
        return []
    if precision == "16-mixed" and device_type != "cuda":
        raise ConfigError("trainer.precision=16-mixed (fp16) needs CUDA; use bf16-mixed here")
    return [ManualMixedPrecision(precision, device_type)]


def _profiler(name: str | None, output_dir: Path) -> Any:
    from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler

    known = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
    return None if name is None else known[name](dirpath=output_dir, filename="profile")
