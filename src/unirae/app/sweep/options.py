"""The options of a sweep over samplers, and the grid that they mean."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app import eval_fid
from unirae.app.config.schema.kinds import NotNegative, OutputFolder, Steps
from unirae.app.inputs.sampler_options import CommonSamplingOptions, Solver
from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    from unirae.evaluation.results.guidance_grid import Point
    from unirae.evaluation.sampling.settings import SamplerSettings


@dataclass(frozen=True, kw_only=True)
class Options(eval_fid.ScoringOptions, CommonSamplingOptions):
    """Compare guidance, steps, solvers and averages: score every combination of the given values.

    Each point's result goes into a file of its own, as eval_fid.py writes it; a repeated command goes on where the
    last one stopped, and the lists may grow. Writes table.csv, table.md and plot.png. Run it under torchrun to use
    several devices; the scores stay the same.
    """

    checkpoint: Path
    """A stage-2 checkpoint, or the folder of a run."""
    cfg_scale: tuple[NotNegative, ...] = (1.0, 1.5, 2.0, 3.0)
    """Strengths of guidance, by the same network without label or by --guide_checkpoint. 1 is no guidance."""
    guidance_interval: tuple[str, ...] = ("0,1",)
    """Intervals of guidance, each LOW,HIGH: guide only between these (shifted) times; 0 is data, 1 is noise."""
    ig_scale: tuple[NotNegative, ...] | None = None
    """Strengths of internal guidance, away from the network's own early head. 1 is none. Default: what a converted
    model's configuration says, else 1."""
    ig_interval: tuple[str, ...] | None = None
    """Intervals of internal guidance, each LOW,HIGH as those of guidance. Default: what a converted model's
    configuration says, else 0,1."""
    num_steps: tuple[Steps, ...] = (50,)
    """Numbers of points of the time grid."""
    solver: tuple[Solver, ...] = ("euler",)
    """Solvers that integrate the velocities (docs/sampling.md)."""
    ema_decay: tuple[str, ...] = ("main",)
    """Averages of the weights, by their decays. main is the checkpoint's main one, raw stands for the raw weights."""
    output_dir: OutputFolder | None = None
    """The folder for results, tables and plot. Default: eval/sweep in the checkpoint's run folder."""


def points_of(options: Options, *, weights: str, said: "SamplerSettings | None" = None) -> "list[Point]":
    """The points of the grid for one average of the weights.

    Args:
        said: the settings of the opened model, for internal guidance that the options leave open; None: without.

    Raises:
        ConfigError: If an interval, a scale, a number of steps or a solver cannot work.
    """
    from unirae.evaluation.results.guidance_grid import ALWAYS, grid

    own = (1.0, ALWAYS) if said is None else (said.ig_scale, said.ig_interval)
    ig_scales = (own[0],) if options.ig_scale is None else options.ig_scale
    for name, values, least in (
        ("cfg_scale", options.cfg_scale, 0.0),
        ("ig_scale", ig_scales, 0.0),
        ("num_steps", options.num_steps, 2),
    ):
        wrong = [value for value in values if not least <= value < float("inf")]
        if wrong or not values:
            raise ConfigError(f"--{name} {' '.join(map(str, wrong))}: give numbers from {least:g} up")
    if options.trunk_every > 1 and "dopri5" in options.solver:
        raise ConfigError(
            f"--trunk_every {options.trunk_every} is for fixed steps; leave dopri5 out of --solver"
        )
    return grid(
        weights=[weights],
        solvers=options.solver,
        num_steps=options.num_steps,
        intervals=_intervals("guidance_interval", options.guidance_interval),
        cfg_scales=options.cfg_scale,
        ig_intervals=[own[1]]
        if options.ig_interval is None
        else _intervals("ig_interval", options.ig_interval),
        ig_scales=ig_scales,
    )


def metric_names(options: Options) -> list[str]:
    """The words of ``--metrics``."""
    return [name.strip() for name in options.metrics.split(",")]


def _intervals(name: str, texts: tuple[str, ...]) -> list[tuple[float, float]]:
    if not texts:
        raise ConfigError(f"--{name}: give at least one interval, such as 0,1")
    return [parse_interval(text, name) for text in texts]


def parse_interval(text: str, name: str = "guidance_interval") -> tuple[float, float]:
    """The pair of numbers that a text such as ``0.1,0.9`` holds.

    Raises:
        ConfigError: If the text is no such pair.
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"--{name} {text}: each is LOW,HIGH with 0 <= LOW <= HIGH <= 1, as in 0,1 0.1,0.9")
    return low, high


def weights_options(text: str) -> dict[str, Any]:
    """The sampler's options for one value of ``--ema_decay``.

    Raises:
        ConfigError: If the value is neither a number nor a known word.
    """
    if text in ("main", "raw"):
        return {"use_ema": text == "main"}
    try:
        return {"ema_decay": float(text)}
    except ValueError:
        raise ConfigError(f"--ema_decay {text}: give decays such as 0.9995, main, or raw") from None


def sampler_options(options: Options, average: dict[str, Any]) -> eval_fid.Options:
    """The sweep's options as those of ``eval_fid.py``, with defaults for what is swept.

    Where internal guidance is swept, a model is opened without: its own may not go with the guide, points are checked.
    """
    shared = {
        field.name: getattr(options, field.name)
        for group in (eval_fid.ScoringOptions, CommonSamplingOptions)
        for field in fields(group)
    }
    opened = None if options.ig_scale is None else 1.0
    return eval_fid.Options(checkpoint=options.checkpoint, ig_scale=opened, **shared, **average)
