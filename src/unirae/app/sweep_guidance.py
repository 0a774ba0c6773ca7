"""``python src/sweep_guidance.py --checkpoint C``: scores at every point of a grid of samplers."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app import eval_fid
from unirae.app.inputs.generator import check_null_label, compiled, open_generator, with_sampler_settings
from unirae.app.inputs.options import run_folder
from unirae.app.shell.options import command
from unirae.app.sweep.folder import SweepFolder, common_settings
from unirae.app.sweep.options import Options, metric_names, points_of, sampler_options, weights_options
from unirae.core.errors import ConfigError, RunInterrupted

if TYPE_CHECKING:
    import torch

    from unirae.app.inputs.generator import Generator
    from unirae.evaluation.references.reference import Reference
    from unirae.evaluation.results.guidance_grid import Point, Scored
    from unirae.evaluation.scores.record import Scores
    from unirae.metrics.resampling import Confidence
    from unirae.metrics.set_metrics import SetMetric


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """The metrics and the reference that every point is scored with."""

    metrics: "list[SetMetric]"
    reference: "Reference | None"
    confidence: "Confidence | None"

    def describe(self) -> dict[str, Any]:
        """A record of the yardstick. It leaves out how sure the scores are, which does not change them."""
        from unirae.evaluation.passes.scoring import settings_of

        return {
            "metrics": settings_of(self.metrics),
            "reference": None if self.reference is None else self.reference.identity,
        }


def run(options: Options) -> "list[Scored]":
    """Score what is not there yet, then show the table; the first process alone gives the points."""
    from unirae.app.sweep.table import show
    from unirae.core.distributed import is_main

    points_of(options, weights="")  # mistakes show before anything is opened
    averages = [weights_options(text) for text in options.ema_decay]
    with options.computing() as device:
        folder = sweep(options, averages, device)
        if not is_main():
            return []
        scored = folder.summarise()
        show(scored, folder.folder)
    return scored


main = command(Options, run)


def sweep(options: Options, averages: list[dict[str, Any]], device: "torch.device") -> SweepFolder:
    """Score every point that the folder lacks. Networks are opened once for each average, all else once.

    Raises:
        ConfigError: If the folder belongs to another sweep, or if options do not fit the model.
        RunInterrupted: If the process was asked to stop. Finished points stay, and the same command goes on.
    """
    from unirae.core.distributed import is_main
    from unirae.core.log import get_logger
    from unirae.metrics.set_metrics import need_encoder

    generator = open_average(options, averages[0], device, with_encoder=need_encoder(metric_names(options)))
    folder = SweepFolder(options.output_dir or run_folder(generator.checkpoint) / "eval/sweep")
    try:
        yardstick = open_yardstick(options, averages[0], generator, folder, device)
        scored: set[str] = set()
        for number, average in enumerate(averages):
            if number > 0:
                generator = open_average(options, average, device)
            if (weights := generator.settings["weights"]) in scored:
                if is_main():
                    given = options.ema_decay[number]
                    get_logger(__name__).warning(
                        "--ema_decay %s is %s, which was given before", given, weights
                    )
                continue
            scored.add(weights)
            score_average(options, generator, yardstick, folder, device)
    except KeyboardInterrupt:
        raise RunInterrupted(
            f"interrupted; the points in {folder.folder} stay: repeat the command to go on from here"
        ) from None
    return folder


def open_average(
    options: Options, average: dict[str, Any], device: "torch.device", *, with_encoder: bool = False
) -> "Generator":
    """The networks with one average of the weights.

    Raises:
        ConfigError: If guidance is asked of a network without labels, or internal guidance of one without early head.
        WeightsError: If the checkpoint is missing or damaged, or holds no such average.
    """
    generator = open_generator(
        sampler_options(options, average),
        device,
        prompts=lambda about: eval_fid.prompts_to_score(options, about),
        with_encoder=with_encoder,
        encoder_weights=options.encoder_weights,
    )
    check_null_label(generator, options.cfg_scale)
    unlabelled = not generator.sampler.dit.has_null_condition and generator.sampler.guide is None
    if unlabelled and any(scale != 1 for scale in options.cfg_scale):
        raise ConfigError(
            f"--cfg_scale {' '.join(f'{scale:g}' for scale in options.cfg_scale)}: this model was trained without "
            "labels; give 1, or a guide with --guide_checkpoint"
        )
    for point in model_points(options, generator):
        at_point(generator, point)  # refuses what this network cannot do
    return generator


def open_yardstick(
    options: Options,
    average: dict[str, Any],
    generator: "Generator",
    folder: SweepFolder,
    device: "torch.device",
) -> Yardstick:
    """Open extractors and reference, and record in the folder what all points share.

    Raises:
        ConfigError: If the folder belongs to another sweep.
    """
    from unirae.core.distributed import on_main

    common = common_settings(generator.settings, count=options.num_samples)
    on_main(lambda: folder.check(common))  # before the reference, which may take long
    own = sampler_options(options, average)
    metrics = eval_fid.build_metrics(own, metric_names(options), generator, device)
    reference = eval_fid.open_reference(own, metrics, generator, device)
    yardstick = Yardstick(metrics=metrics, reference=reference, confidence=own.confidence_with(own.seed))
    common |= yardstick.describe()

    def record() -> None:
        folder.check(common)
        folder.write_common(common)

    on_main(record)
    return yardstick


def score_average(
    options: Options,
    generator: "Generator",
    yardstick: Yardstick,
    folder: SweepFolder,
    device: "torch.device",
) -> None:
    """Score every point of one average that the folder does not hold with the uncertainty that was asked for."""
    from unirae.core.distributed import is_main, on_main
    from unirae.core.log import get_logger

    points = model_points(options, generator)
    generator = compiled(generator, options, options.num_samples * len(points), device)
    for number, point in enumerate(points, start=1):
        here = at_point(generator, point)
        file = folder.file(point, here.settings)
        if on_main(partial(folder.holds, file, here.settings, yardstick.confidence)):
            result, shown = None, "is there"
        else:
            result = eval_fid.score_samples(
                here,
                options.num_samples,
                metrics=yardstick.metrics,
                reference=yardstick.reference,
                device=device,
            )
            shown = ", ".join(f"{name} {value:.5g}" for name, value in result.labelled().items())
        if is_main():
            get_logger(__name__).info("point %d of %d, %s: %s", number, len(points), point, shown)
        if result is not None:  # which was shown: the disk may be full
            on_main(partial(keep, folder, file, result))


def keep(folder: SweepFolder, file: Path, result: "Scores") -> None:
    """Write a point's result, and tables and plot with it."""
    folder.write(file, result)
    folder.summarise()


def model_points(options: Options, generator: "Generator") -> "list[Point]":
    """The points of the grid for the opened average."""
    return points_of(options, weights=generator.settings["weights"], said=generator.sampler.settings)


def at_point(generator: "Generator", point: "Point") -> "Generator":
    """The same networks, sampled as a point says."""
    settings = generator.sampler.settings
    settings = replace(
        settings,
        num_steps=point.num_steps,
        solver=point.solver,
        cfg_scale=point.cfg_scale,
        guidance_interval=point.guidance_interval,
        ig_scale=point.ig_scale,
        ig_interval=point.ig_interval,
        ig_unconditional_scale=None if point.ig_scale == 1.0 else settings.ig_unconditional_scale,
    )
    return with_sampler_settings(generator, settings)
