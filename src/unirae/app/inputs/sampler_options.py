"""The options of the commands that sample from a stage-2 checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unirae.app.config.schema.kinds import Count, Decay, NotNegative, Positive, Seed, Share, Steps
from unirae.app.inputs.options import DeviceOptions
from unirae.app.shell.options import Switch

Solver = Literal["euler", "heun", "multistep", "multistep3", "dopri5", "sde"]


@dataclass(frozen=True, kw_only=True)
class CommonSamplingOptions(DeviceOptions):
    """The options of sampling that a sweep keeps fixed."""

    guide_checkpoint: Path | None = None
    """A weaker model of the same latents for autoguidance, such as a smaller one or an earlier step; none for no guide.
    Default: the guide that an exported folder holds, if any."""
    label_sampling: Literal["equal", "random"] = "equal"
    """Labels of the images: equal takes the classes in turn, random draws them. Scores of the two are not
    comparable."""
    time_grid: Literal["reference", "to_zero", "log_odds", "linear"] | None = None
    """Grid of times: reference ends at shift(0.001), to_zero at 0; log_odds is for few steps of multistep3; linear is
    RAEv2's, whose N steps are N + 1 points. Default: what a converted model says, else reference."""
    ig_unconditional_scale: NotNegative | None = None
    """Strength of internal guidance without label, where --cfg_scale guides, too. Default: --ig_scale."""
    time_shift: Positive | None = None
    """Shift of the time grid. Default: the shift of training."""
    trunk_every: Count = 1
    """Compute a DiT^DH's trunk only once in so many evaluations: faster, but not exact (docs/sampling.md)."""
    clamp_velocity: Switch = False
    """Of networks that predict data: divide by no time below 0.05, as RAEv2 does; false is exact."""
    seed: Seed = 0
    """Seed of the noise. Image number i is a function of (seed, i) and its label or prompt."""
    batch_size: Count = 32
    """Images in a batch. Another number changes the last digits."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the networks. The solver's state is always fp32."""
    compile: Literal["auto", "true", "false"] = "auto"
    """Fuse operations of the network by torch.compile, which may change the last digits: auto does for 5000 evaluations
    and more, where a compiler is there."""
    rae: Path | None = None
    """The autoencoder's checkpoint or folder. Default: where the generator's checkpoint says."""
    text_encoder: str | None = None
    """The text encoder of a model that was trained on captions: a folder, a hub's name, or minilm. Default: where the
    checkpoint says."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(CommonSamplingOptions):
    """The options of sampling: guidance, time grid, solver, weights, device."""

    cfg_scale: NotNegative | None = None
    """Strength of guidance, by the same network without label or by --guide_checkpoint. 1 is no guidance. Default of
    this, --guidance_interval, --num_steps and --solver: what a converted model's configuration says, else 1, the whole
    interval, 50 and euler."""
    guidance_interval: tuple[Share, Share] | None = None
    """Guide only between these two (shifted) times, ends included; 0 is data, 1 is noise."""
    ig_scale: NotNegative | None = None
    """Strength of internal guidance, away from the network's own early head. 1 is none. Default of this, --ig_interval
    and --ig_unconditional_scale: what a converted model's configuration says, else 1 and the whole interval."""
    ig_interval: tuple[Share, Share] | None = None
    """Internal guidance only between these two (shifted) times, ends included."""
    num_steps: Steps | None = None
    """Points of the time grid. euler evaluates the network once less."""
    solver: Solver | None = None
    """Solver that integrates the velocities (docs/sampling.md)."""
    use_ema: Switch = True
    """Use the averaged weights; false takes the raw ones."""
    ema_decay: Decay | None = None
    """Decay of the average to use, where the checkpoint holds several. Default: the main one."""


@dataclass(frozen=True, kw_only=True)
class SamplerOptions(SamplingOptions):
    """The options of sampling from one checkpoint."""

    checkpoint: Path
    """A stage-2 checkpoint, or the folder of a run."""
