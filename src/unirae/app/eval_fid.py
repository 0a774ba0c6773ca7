"""``python src/eval_fid.py --checkpoint C``: sample and score in one go, without storing images."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unirae.app import cli
from unirae.app.generator import describe_program, labels_of, open_generator
from unirae.app.options import parse
from unirae.app.sampler_options import SamplerOptions
from unirae.core.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import torch

    from unirae.app.generator import Generator
    from unirae.evaluation.generation import GenerationFrechet, GenerationScores
    from unirae.metrics.extractors import FeatureExtractor


@dataclass(frozen=True, kw_only=True)
class Options(SamplerOptions):
    """Fréchet distance of samples to a reference: FID, or in the features of the autoencoder's encoder.

    For ImageNet give ADM's file (VIRTUAL_imagenet256_labeled.npz) as --reference: published gFIDs rest on it.
    For your own data the reference is the training split, centre-cropped. Run it under torchrun to use several
    devices; the samples stay the same.
    """

    reference: str = "data"
    """data, or an npz file with mu and sigma (of ADM or pytorch-fid)."""
    split: Literal["train", "val"] = "train"
    """The part of the data that is the reference."""
    data: str | None = None
    """Reference data: emoji, photos, imagenet, image_folder, synthetic, or a folder. Default: what the checkpoint
    was trained on."""
    data_dir: Path | None = None
    """Where the data lie, if not where the configuration says."""
    reference_samples: int | None = None
    """A seeded random subset of the data as the reference. Default: every image."""
    num_samples: int = 50_000
    """Images to sample; scores of fewer are biased upward."""
    metrics: str = "fid"
    """Of fid (Inception) and fd (the features of the autoencoder's encoder), comma-separated."""
    inception_weights: str = "hub"
    """hub (torch's cache or a download), random (says so in the score's name), or torch-fidelity's file."""
    encoder_weights: str | None = None
    """Where the encoder's weights lie, if not where the autoencoder's checkpoint says; for fd."""
    output: Path | None = None
    """The JSON file with scores and settings. Default: eval/fid-….json in the checkpoint's run folder."""
    num_workers: int = 0
    """Processes that read the reference's images."""


def main() -> int:
    """Parse, evaluate, and turn mistakes into one line."""
    options = parse(Options)
    return cli.run(lambda: run(options))


def run(options: Options) -> "GenerationScores":
    """Sample, score, write the JSON file and show the table."""
    from unirae.app.inference import fixed_threads, pick_device, process_group
    from unirae.core.distributed import is_main, rank
    from unirae.core.log import get_logger
    from unirae.evaluation.scores import write_scores

    cli.quiet_libraries()
    device = pick_device(options.device)
    with process_group(device), fixed_threads(device, options.num_threads):
        cli.configure_logging(rank=rank())
        names = [name.strip() for name in options.metrics.split(",")]
        generator = open_for_scoring(options, names, device)
        result = evaluate(options, names, generator, device)
        if is_main():
            output = options.output or default_output(options, generator, result)
            write_scores(output, result)
            show(result)
            get_logger(__name__).info("scores and settings: %s", output)
    return result


def open_for_scoring(options: Options, names: list[str], device: "torch.device") -> "Generator":
    """The checkpoint; with the encoder only where its features are compared."""
    if options.reference != "data" and "fd" in names:
        raise ConfigError(
            f"--metrics fd needs --reference data: {options.reference} holds Inception features, which fid compares"
        )
    return open_generator(
        options, device, with_encoder="fd" in names, encoder_weights=options.encoder_weights
    )


def evaluate(
    options: Options, names: list[str], generator: "Generator", device: "torch.device"
) -> "GenerationScores":
    """References first, since their mistakes show at once; then the samples."""
    from unirae.app.inference import progress_bar
    from unirae.evaluation.generation import evaluate_generation
    from unirae.evaluation.metric_set import build_generation_extractors, encoder_extractor

    rae = generator.sampler.rae
    try:
        extractors = build_generation_extractors(
            names,
            device=device,
            inception_weights=options.inception_weights,
            encoder=encoder_extractor(rae.encoder, rae.encoder_input_size) if "fd" in names else None,
            options="--",
        )
    except WeightsError as error:
        raise WeightsError(f"{error} Or compare other features: --metrics fd") from None
    metrics = build_metrics(options, extractors, generator, device)
    with progress_bar("sampling", rate="images/s") as progress:
        result = evaluate_generation(
            generator.sampler,
            options.num_samples,
            metrics=metrics,
            batch_size=options.batch_size,
            device=device,
            progress=progress,
        )
    classes = set(labels_of(generator, options.num_samples))
    result.settings.update(
        {
            "sampler": generator.settings,
            "classes_sampled": len(classes),
            "network_evaluations": generator.sampler.evaluations_of_all(),
            "made_with": describe_program(generator, device),
        }
    )
    return result


def build_metrics(
    options: Options, extractors: "list[FeatureExtractor]", generator: "Generator", device: "torch.device"
) -> "list[GenerationFrechet]":
    """Each extractor with its reference."""
    from unirae.app.builders import build_dataset
    from unirae.app.inference import choose_data, progress_bar
    from unirae.evaluation.generation import GenerationFrechet
    from unirae.evaluation.reference import reference_from_npz, references_from_data

    if options.reference != "data":
        references = [reference_from_npz(options.reference, extractor) for extractor in extractors]
    else:
        trained_on = generator.about["config"]["data"]
        data = choose_data(options.data, options.data_dir, trained_on, split=options.split)
        size = generator.sampler.rae.output_size
        dataset = build_dataset(data, split=options.split, size=size, use="eval")
        with progress_bar(f"reference ({options.split} split)", rate="images/s") as progress:
            references = references_from_data(
                dataset,
                extractors,
                num_samples=options.reference_samples,
                seed=options.seed,
                batch_size=options.batch_size,
                device=device,
                num_workers=options.num_workers,
                progress=progress,
            )
    return [
        GenerationFrechet(extractor=extractor, reference=reference, device=device)
        for extractor, reference in zip(extractors, references, strict=True)
    ]


def default_output(options: Options, generator: "Generator", result: "GenerationScores") -> Path:
    """``eval/fid-….json`` in the run's folder, named by what differs most often between evaluations.

    A hash of everything that decides the scores, as far as the settings know it, tells all others apart.
    """
    from unirae.core.io import sha256_of_text

    checkpoint = generator.checkpoint
    in_run = checkpoint.parent.name == "checkpoints"
    folder = checkpoint.parent.parent if in_run else checkpoint.parent
    reference = options.split if options.reference == "data" else Path(options.reference).stem
    sampler = f"{options.solver}{options.num_steps}-cfg{options.cfg_scale:g}"
    weights = "ema" if options.use_ema else "raw"
    decisive = {key: result.settings[key] for key in ("sampler", "metrics", "count")}
    code = sha256_of_text(json.dumps(decisive, sort_keys=True))[:8]
    name = f"fid-{checkpoint.stem}-{weights}-{reference}-{sampler}-{result.count}-{code}.json"
    return folder / "eval" / name


def show(result: "GenerationScores") -> None:
    """The scores as a table."""
    from rich.console import Console
    from rich.table import Table

    labels = result.settings["sampler"]["label_sampling"]
    table = Table("score", "value", title=f"{result.count} samples, {labels} labels")
    for name, value in result.labelled().items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)
