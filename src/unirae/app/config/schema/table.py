"""The keys from the root: those of every run, and those below ``trainer``, ``callbacks`` and ``logger``."""

from typing import Annotated, Literal

from unirae.app.config.schema.data import Data, Mix
from unirae.app.config.schema.kinds import (
    Count,
    Decay,
    Distinct,
    Keys,
    NotNegative,
    PathText,
    Positive,
    PositiveShare,
    Seed,
    Share,
    Steps,
)
from unirae.app.config.schema.models import LinearProbe, Mae, Stage1, Stage2

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
GenerationScore = Literal[
    "fid", "sfid", "is", "kid", "mind", "precision", "recall", "density", "coverage", "fd", "mind_fd"
]
ReconstructionScore = Literal["rfid", "rfd", "psnr", "ssim", "lpips"] | GenerationScore


class Trainer(Keys):
    """Devices, precision, length (configs/trainer)."""

    accelerator: Accelerator
    devices: Literal["auto"] | Count
    num_nodes: Count
    strategy: Literal["ddp", "fsdp"]
    precision: Precision
    float32_matmul: Literal["auto", "highest", "high", "medium"]
    num_threads: Literal["auto"] | Count
    compile: Literal["auto"] | bool
    max_epochs: Positive | None
    max_steps: Count | None
    accumulate_grad_batches: Count
    log_every_n_steps: Count
    profiler: Literal["simple", "advanced"] | None
    detect_anomaly: bool
    deterministic: bool


class ModelCheckpoint(Keys):
    """The times at which a run is saved."""

    every_n_train_steps: Count | None
    keep_every_n_steps: Count | None
    monitor: str | None
    mode: Literal["auto", "min", "max"]


class Samples(Keys):
    """The pictures that a run shows."""

    count: Count
    num_steps: Steps
    cfg_scale: NotNegative
    ig_scale: NotNegative
    ig_interval: tuple[Share, Share]
    ig_unconditional_scale: NotNegative | None


class ReconstructionMetrics(Keys):
    """Scores of stage 1."""

    every_n_steps: Count | None
    every_n_epochs: Positive | None
    metrics: Annotated[list[ReconstructionScore], Distinct()]
    num_samples: Count | None
    batch_size: Count
    inception_weights: PathText
    lpips_weights: PathText


class GenerationMetrics(Keys):
    """Scores of stage 2."""

    every_n_steps: Count | None
    every_n_epochs: Positive | None
    metrics: Annotated[list[GenerationScore], Distinct()]
    num_samples: Count
    batch_size: Count
    num_steps: Steps
    cfg_scale: NotNegative
    ig_scale: NotNegative
    ig_interval: tuple[Share, Share]
    ig_unconditional_scale: NotNegative | None
    inception_weights: PathText


class ProbeAccuracy(Keys):
    """The score of the linear probe."""

    every_n_steps: Count | None
    every_n_epochs: Positive | None
    batch_size: Count


class HealthCheck(Keys):
    """Healthy runs to compare with."""

    curves: PathText | None


class Callbacks(Keys):
    """The callbacks that watch a run (configs/callbacks); those of another stage are not read."""

    model_checkpoint: ModelCheckpoint
    samples: Samples
    reconstruction_metrics: ReconstructionMetrics
    generation_metrics: GenerationMetrics
    probe_accuracy: ProbeAccuracy
    health_check: HealthCheck


class Logger(Keys):
    """The loggers of curves (configs/logger)."""

    csv: bool
    tensorboard: bool
    wandb: bool
    project: str


class Paths(Keys):
    """Folders (configs/paths)."""

    output_dir: PathText


class Flow(Keys):
    """What the network of stage 2 predicts, and the distribution of times (configs/flow)."""

    prediction: Literal["velocity", "data"]
    t_min: Decay | None
    time_distribution: Literal["logit_normal", "uniform"]
    time_mean: float
    time_std: Positive
    time_max: PositiveShare
    time_grid: Literal["reference", "to_zero", "log_odds", "linear"]
    time_shift: Positive | None


class _Common(Keys):
    data: Data | Mix
    trainer: Trainer
    callbacks: Callbacks
    logger: Logger
    paths: Paths
    seed: Seed
    ckpt_path: PathText | None
    ckpt_other_labels: bool
    weights_dir: PathText | None
    optimized_metric: str | None


class Config(_Common):
    """The configuration of a run of the stages that train a network on images (configs/train.yaml)."""

    model: Stage1 | Mae | LinearProbe


class Stage2Config(_Common):
    """The configuration of a run of stage 2."""

    model: Stage2
    flow: Flow


ROOTS = (Config, Stage2Config)
"""The kinds of a whole configuration, told apart by ``model.stage``."""
