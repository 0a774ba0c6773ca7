"""``python src/eval_rfid.py --checkpoint C``: how well a stage-1 checkpoint reconstructs images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unirae.app.config.schema.kinds import Count, OutputFile, Seed
from unirae.app.inputs.options import AutoencoderOptions, DataOptions, DeviceOptions, ScoreOptions, run_folder
from unirae.app.shell.argument_names import WITH_DATA_DIR
from unirae.app.shell.options import Switch, command
from unirae.core.errors import WeightsError
from unirae.core.names import count_of

if TYPE_CHECKING:
    from unirae.evaluation.scores.reconstruction import ReconstructionMetricSet, ReconstructionScores
    from unirae.models.checkpoints.reading import Checkpoint
    from unirae.models.rae import RAE


@dataclass(frozen=True, kw_only=True)
class Options(AutoencoderOptions, ScoreOptions, DataOptions, DeviceOptions):
    """Score a checkpoint's reconstructions of held-out images: rFID, PSNR, SSIM, LPIPS.

    The reference of rFID is the same centre-cropped images. The checkpoint is all that is needed: it knows
    its model and its data. Run it under torchrun to use several devices; the scores stay the same.
    """

    data: str | None = None
    """emoji, photos, hf, image_folder, tar_shards, synthetic (the validation split), or a folder, all of whose
    images are taken unless it has a validation part. Default: what the checkpoint was trained on."""
    num_samples: Count | None = None
    """Number of images, a seeded random subset. Default: every image."""
    batch_size: Count = 32
    """Images in a batch. No score depends on it."""
    metrics: str = "rfid,psnr,ssim,lpips"
    """The scores, comma-separated: rfid, rfd (in the features of the checkpoint's encoder), psnr, ssim, lpips; also
    sfid, is, kid, precision, recall, density, coverage of the reconstructions against the originals."""
    reference: Path | None = None
    """A file of make_reference.py --purpose reconstruction of exactly these images. Default: the originals' features
    are computed in passing. References of generation scores are refused."""
    lpips_weights: str = "hub"
    """Weights of LPIPS's VGG-16: hub, random, or the path of torchvision's file."""
    use_ema: Switch = True
    """Score the averaged decoder; false scores the raw one."""
    output: OutputFile | None = None
    """The JSON file with scores and settings. Default: eval/rfid-….json in the checkpoint's run folder."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the reconstruction. Metrics always run in float32 and sum in float64."""
    seed: Seed = 0
    """Seed that chooses the subset."""


def run(options: Options) -> "ReconstructionScores":
    """Evaluate, write the JSON file and show the table."""
    from unirae.app.shell.tables import show_and_write
    from unirae.core.distributed import is_main
    from unirae.evaluation.passes.reading import spoken_data
    from unirae.models.checkpoints.reading import open_checkpoint

    with options.computing() as device:
        checkpoint = open_checkpoint(options.checkpoint, kind="stage1")
        result = evaluate(options, checkpoint, device)
        if is_main():
            output = options.output or _default_output(checkpoint.file, options, result)
            title = f"{count_of(result.count, 'image')} of {spoken_data(result.settings['images'])}"
            show_and_write(result, title=title, output=output)
    return result


main = command(Options, run, kept="no scores were written. Repeat the command", names=WITH_DATA_DIR)


def evaluate(options: Options, checkpoint: "Checkpoint", device: Any) -> "ReconstructionScores":
    """Score the reconstructions that the options ask for."""
    from unirae.app.run.builders import build_dataset, check_data
    from unirae.app.shell.devices import choose_data, progress_bar, reader_processes
    from unirae.core.io import file_sha256
    from unirae.evaluation.passes.reading import describe_data
    from unirae.evaluation.references.reference_file import read_reference
    from unirae.evaluation.scores.reconstruction import evaluate_reconstruction
    from unirae.models.checkpoints.opening import rae_from_checkpoint

    about = checkpoint.about
    data = choose_data(options.data, options.data_dir, checkpoint.config["data"], labels=False)
    check_data(data)
    rae = rae_from_checkpoint(checkpoint, ema=options.use_ema, encoder_weights=options.encoder_weights)
    rae.to(device)
    dataset = build_dataset(data, split="val", size=rae.output_size, use="eval")
    metrics = build_metrics(options, rae, device)
    about_images = {
        "checkpoint": str(checkpoint.file),
        "checkpoint_sha256": file_sha256(checkpoint.file),
        "trained_with": {key: about[key] for key in ("version", "commit", "step")},
        "weights": "EMA" if options.use_ema else "raw",
        "crop": data["eval_transform"]["_target_"],
        **describe_data(dataset),
    }
    with progress_bar("reconstructing") as progress:
        return evaluate_reconstruction(
            rae,
            dataset,
            metrics=metrics,
            reference=None if options.reference is None else read_reference(options.reference),
            batch_size=options.batch_size,
            num_samples=options.num_samples,
            seed=options.seed,
            device=device,
            precision=options.precision,
            num_workers=reader_processes(options.num_workers, options.num_samples or len(dataset)),
            about=about_images,
            progress=progress,
        )


def build_metrics(options: Options, rae: "RAE", device: Any) -> "ReconstructionMetricSet":
    """The metrics with their networks."""
    from unirae.evaluation.scores.metric_set import (
        MetricSources,
        build_reconstruction_metrics,
        encoder_extractor,
    )

    sources = MetricSources(
        device=device,
        inception_weights=options.inception_weights,
        lpips_weights=options.lpips_weights,
        encoder=encoder_extractor(rae.encoder, rae.encoder_input_size),
        confidence=options.confidence_with(options.seed),
    )
    try:
        return build_reconstruction_metrics([name.strip() for name in options.metrics.split(",")], sources)
    except WeightsError as error:
        raise WeightsError(f"{error} Or leave this score out: --metrics rfd,psnr,ssim") from None


def _default_output(checkpoint: Path, options: Options, result: "ReconstructionScores") -> Path:
    """``eval/rfid-….json`` in the run's folder; a hash of everything that decides the scores tells others apart."""
    from unirae.core.io import short_code

    weights = "ema" if options.use_ema else "raw"
    images = result.settings["images"]
    decisive = {key: result.settings[key] for key in ("metrics", "reference")}
    decisive |= {key: images[key] for key in _DECISIVE}
    name = f"rfid-{checkpoint.stem}-{weights}-{images['data']}-{result.count}-{short_code(decisive)}.json"
    return run_folder(checkpoint) / "eval" / name


_DECISIVE = ("checkpoint_sha256", "weights", "fingerprint", "crop", "count", "subset_seed", "precision")
"""Settings of the images that decide scores; the other recorded ones follow from these, or change no score."""
