"""``python src/evaluate.py --images A --reference B``: score images from anywhere, or a checkpoint of ours."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app.inputs.clip import clip_sources
from unirae.app.inputs.fdr import fdr_sources
from unirae.app.inputs.features import encoder_extractor_of
from unirae.app.inputs.sampler_options import SamplingOptions
from unirae.app.scores.options import DEFAULT_METRICS, Options
from unirae.app.shell import cli
from unirae.app.shell.options import command
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.names import count_of

if TYPE_CHECKING:
    import torch

    from unirae.data.stored import StoredImages
    from unirae.evaluation.references.reference import Reference
    from unirae.evaluation.scores.metric_set import MetricSources
    from unirae.evaluation.scores.record import Scores
    from unirae.evaluation.scores.stored import Reading
    from unirae.metrics.base import PairMetric
    from unirae.metrics.set_metrics import SetMetric


def run(options: Options) -> "Scores":
    """Score, write the JSON file and show the table."""
    from unirae.app.scores.checkpoint_scores import checkpoint_kind, score_checkpoint
    from unirae.app.shell.tables import show_and_write
    from unirae.core.distributed import is_main

    cli.quiet_libraries()
    kind = checkpoint_kind(options.images)
    _refuse_sampling_options(options, kind)
    if kind is not None:
        return score_checkpoint(options, kind)
    with options.computing() as device:
        result = evaluate(options, device)
        if is_main():
            output = options.output or _default_output(options, result)
            show_and_write(result, title=count_of(result.count, "image"), output=output)
    return result


main = command(Options, run, kept="no scores were written; what the caches hold stays. Repeat the command")


def evaluate(options: Options, device: "torch.device") -> "Scores":
    """Score images that lie in files."""
    from unirae.app.inputs.images import open_images
    from unirae.app.inputs.reference import require_reference
    from unirae.app.shell.devices import progress_bar, reader_processes
    from unirae.evaluation.scores.stored import Reading, score_images, score_pairs

    images = open_images(
        options.images, split=options.images_split, option="--images_split", size=options.size
    )
    reading = Reading(
        num_samples=options.num_samples,
        seed=options.seed,
        batch_size=options.batch_size,
        num_workers=reader_processes(options.num_workers, len(images.images)),
        device=device,
    )
    metrics, of_pairs = _build_metrics(options, images.images, reading, device)
    if options.reference is None and (options.reference_split or options.reference_samples):
        raise ConfigError(
            "--reference_split and --reference_samples choose images of --reference; give --reference, too"
        )
    with_reference = dict.fromkeys(n for m in metrics if m.reference for n in m.labels)
    require_reference(options.reference, [*(metric.name for metric in of_pairs), *with_reference])
    about = {"kind": images.kind, **images.about}
    with progress_bar("images", rate="images/s") as progress:
        reading = replace(reading, progress=progress)
        if of_pairs:
            originals = _originals(options)
            return score_pairs(
                images.images, originals, of_pairs=of_pairs, metrics=metrics, reading=reading, about=about
            )
        reference = open_reference(options, metrics, device)
        return score_images(images.images, metrics=metrics, reference=reference, reading=reading, about=about)


def _build_metrics(
    options: Options, images: "StoredImages", reading: "Reading", device: "torch.device"
) -> "tuple[list[SetMetric], list[PairMetric]]":
    """The metrics of sets and those of pairs, with their networks."""
    from unirae.evaluation.scores.metric_set import build_set_metrics, pair_metric

    of_sets, of_pairs = partition([name.strip() for name in (options.metrics or DEFAULT_METRICS).split(",")])
    _require_fdr_reference(options, of_sets)
    if of_pairs and "clip_score" in of_sets:
        raise ConfigError(
            f"--metrics clip_score reads images in the order of their prompts and {', '.join(of_pairs)} in that of "
            "pairs; ask for them in two commands"
        )
    of_clip = clip_sources(options, of_sets, images, reading.indices(images))
    sources = metric_sources(options, of_sets, of_clip, device)
    try:
        metrics = build_set_metrics(of_sets, sources) if of_sets else []
        return metrics, [pair_metric(name, sources) for name in of_pairs]
    except WeightsError as error:
        raise WeightsError(f"{str(error).rstrip('.')}. {_without_those_weights(of_sets, of_pairs)}") from None


def _without_those_weights(of_sets: list[str], of_pairs: list[str]) -> str:
    """What can be scored where a network's weights are missing; images without originals make no pairs."""
    if of_pairs and not of_sets:
        return "Or leave lpips out of --metrics: psnr and ssim need no network"
    features = "Or compare features of an encoder that is here: --metrics fd --encoder CHECKPOINT_OR_FOLDER"
    return f"{features}; of pairs psnr and ssim need no network" if of_pairs else features


def _default_output(options: Options, result: "Scores") -> Path:
    """``outputs/evaluation/….json``; a hash of the contents and of all else that decides the scores names it."""
    from unirae.core.io import short_code

    images = result.settings["images"]
    decisive = {key: result.settings[key] for key in ("metrics", "reference")}
    decisive |= {key: images[key] for key in ("content_sha256", "count", "size_px")}
    name = f"{Path(options.images).expanduser().resolve().stem}-{result.count}-{short_code(decisive)}.json"
    return Path("outputs/evaluation") / name


def partition(names: list[str]) -> tuple[list[str], list[str]]:
    """Metrics by their names, sorted into those of sets of images and those of pairs.

    Raises:
        ConfigError: If a metric's name is unknown, or is given twice.
    """
    from unirae.evaluation.scores.metric_set import EVALUATION_METRICS, PAIR_METRICS, check_names

    check_names(names, (*EVALUATION_METRICS, *PAIR_METRICS))
    return [n for n in names if n in EVALUATION_METRICS], [n for n in names if n in PAIR_METRICS]


def _require_fdr_reference(options: Options, of_sets: list[str]) -> None:
    """Refuse fdr6 without anything to compare with, before its networks are looked for."""
    if "fdr6" in of_sets and options.reference is None and options.fdr_references is None:
        raise ConfigError(
            "--metrics fdr6 compares with reference moments; give the folder of the published ones as "
            "--fdr_references, or a --reference"
        )


def metric_sources(
    options: Options, of_sets: list[str], of_clip: dict[str, Any], device: "torch.device"
) -> "MetricSources":
    """The sources of the metrics' networks; ``of_clip`` are those of clip_score."""
    from unirae.evaluation.scores.metric_set import MetricSources
    from unirae.metrics.set_metrics import need_encoder

    return MetricSources(
        device=device,
        inception_weights=options.inception_weights,
        lpips_weights=options.lpips_weights,
        encoder=encoder_extractor_of(options, asked=need_encoder(of_sets), device=device),
        confidence=options.confidence_with(options.seed),
        is_order=options.is_order,
        **fdr_sources(options, of_sets),
        **of_clip,
    )


def open_reference(
    options: Options, metrics: "list[SetMetric]", device: "torch.device"
) -> "Reference | None":
    """The reference that ``--reference`` names: a file of statistics, or images."""
    from unirae.app.inputs.reference import reference_of_spec

    if options.reference is None:
        return None
    return reference_of_spec(
        options.reference,
        metrics,
        split=options.reference_split,
        size=options.size,
        device=device,
        num_samples=options.reference_samples,
        seed=options.seed,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        cache=options.cache,
        verify_contents=options.verify_contents,
    )


def _originals(options: Options) -> "StoredImages":
    from unirae.app.inputs.images import is_reference_file, open_images

    reference = str(options.reference)
    if is_reference_file(reference):
        raise ConfigError(f"psnr, ssim and lpips compare image by image; {reference} is a file of statistics")
    if options.reference_samples is not None:
        raise ConfigError("--reference_samples: psnr, ssim and lpips need every original; use --num_samples")
    return open_images(
        reference, split=options.reference_split, option="--reference_split", size=options.size
    ).images


def _refuse_sampling_options(options: Options, kind: str | None) -> None:
    """Refuse an option of sampling, which would be ignored."""
    shared = {"seed", "batch_size", "device", "num_threads"}
    if kind == "stage2":
        return
    given = [
        f"--{field.name}"
        for field in fields(SamplingOptions)
        if field.name not in shared and getattr(options, field.name) != field.default
    ]
    if kind == "stage1":
        given = [name for name in given if name not in ("--precision", "--use_ema")]
    if given:
        raise ConfigError(f"{', '.join(given)}: nothing is sampled, since --images is no stage-2 checkpoint")
