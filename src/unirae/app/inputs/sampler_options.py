"""The options of the commands that sample from a stage-2 checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from unirae.app.config.schema.kinds import Count, Decay, NotNegative, Positive, Range, Seed, Share, Steps
from unirae.app.shell.options import Switch

Solver = Literal["euler", "heun", "multistep", "multistep3", "dopri5", "sde"]


@dataclass(frozen=True, kw_only=True)
class CommonSamplingOptions:
    """What a sweep over samplers keeps fixed."""

    guide_checkpoint: Path | None = None
    """A weaker model of the same latents for autoguidance, such as a smaller one or an earlier step; none for none.
    Default: the guide that an exported folder holds, if any."""
    label_sampling: Literal["equal", "random"] = "equal"
    """equal goes round the classes; random draws them. Scores of the two are not comparable."""
    time_grid: Literal["reference", "to_zero", "log_odds"] | None = None
    """reference ends at shift(0.001), to_zero at 0; log_odds is for few steps of multistep3. Default: what a converted
    model says, else reference."""
    time_shift: Positive | None = None
    """Of the time grid. Default: the one of training."""
    trunk_every: Count = 1
    """Compute a DiT^DH's trunk at every so-many-th evaluation only: faster, not exact (docs/sampling.md)."""
    seed: Seed = 0
    """Image number i is a function of (seed, i) and its label."""
    batch_size: Count = 32
    """Images at a time; another one changes the last digits."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the networks; the solver's state is always fp32."""
    rae: Path | None = None
    """Where the autoencoder lies, if not where the checkpoint says."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    num_threads: Annotated[int, Range(1, 4096)] | None = None
    """CPU threads of each process. Default: one for each core, also with several processes, since another number
    may change the last digits."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(CommonSamplingOptions):
    """How to sample, and where it is computed."""

    cfg_scale: NotNegative | None = None
    """Strength of guidance: by the same network without label, or by --guide_checkpoint. 1 is without. Default of
    this, --guidance_interval, --num_steps and --solver: what a converted model's configuration says, else 1, the whole
    interval, 50 and euler."""
    guidance_interval: tuple[Share, Share] | None = None
    """Guide only between these (shifted) times; 0 is data, 1 is noise, both ends are inside."""
    num_steps: Steps | None = None
    """Points of the time grid; euler asks the network once less."""
    solver: Solver | None = None
    """How the velocities are integrated (docs/sampling.md)."""
    use_ema: Switch = True
    """The averaged weights; false takes the raw ones."""
    ema_decay: Decay | None = None
    """Which average, where the checkpoint holds several. Default: the main one."""


@dataclass(frozen=True, kw_only=True)
class SamplerOptions(SamplingOptions):
    """What decides the images, and where they are computed."""

    checkpoint: Path
    """A stage-2 checkpoint, or the folder of a run."""
