"""``python src/compute_stats.py --checkpoint C --output FILE``: latent statistics into a copy of a checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unirae.app.config.schema.kinds import Count, OutputFile, Seed
from unirae.app.inputs.options import AutoencoderOptions, DataOptions, DeviceOptions
from unirae.app.shell.argument_names import WITH_DATA_DIR
from unirae.app.shell.options import command
from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    from unirae.models.checkpoints.reading import Checkpoint
    from unirae.models.latent_stats import LatentStats


@dataclass(frozen=True, kw_only=True)
class Options(AutoencoderOptions, DataOptions, DeviceOptions):
    """Mean and variance of the latents over the training images, written into a copy of a stage-1 checkpoint.

    Stage 2 works on latents that these statistics normalise. The checkpoint is all that is needed: it knows its
    encoder and its data. Run it under torchrun to use several devices; the statistics stay the same.
    """

    output: OutputFile
    """The new checkpoint; it must not exist yet."""
    data: str | None = None
    """emoji, photos, hf, image_folder, tar_shards, synthetic (the training split), or a folder. Default: what the
    checkpoint was trained on."""
    transform: Literal["stage2", "adm_crop_flip", "adm_crop"] = "stage2"
    """stage2: what stage 2 sees of these data (data.stage2_transform). adm_crop_flip: ADM's centre crop and its
    mirror image. adm_crop: the crop alone."""
    per: Literal["element", "channel"] = "element"
    """One mean and variance per latent element (the recipe), or per channel."""
    num_samples: Count | None = None
    """Number of images, a seeded random subset. Default: every image."""
    batch_size: Count = 32
    """Images in a batch. The statistics do not depend on it."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the encoder. Sums are always float64."""
    seed: Seed = 0
    """Seed that chooses the subset and the draws of a random transform."""


def run(options: Options) -> "LatentStats":
    """Compute the statistics and write the new checkpoint."""
    from unirae.core.distributed import is_main
    from unirae.core.io import save_tensors
    from unirae.core.log import get_logger
    from unirae.models.checkpoints.reading import open_checkpoint

    with options.computing() as device:
        checkpoint = open_checkpoint(options.checkpoint, kind="stage1")
        _check_output(options.output, checkpoint.file)
        stats = compute(options, checkpoint, device)
        if is_main():
            about = {**checkpoint.about, "latent_stats": stats.to_dict()}
            save_tensors(options.output, {**checkpoint.content, "unirae": about})
            log = get_logger(__name__)
            log.info("%s", summary(stats))
            log.info("checkpoint with latent statistics: %s", options.output)
    return stats


main = command(Options, run, kept="no checkpoint was written. Repeat the command", names=WITH_DATA_DIR)


def compute(options: Options, checkpoint: "Checkpoint", device: Any) -> "LatentStats":
    """Compute the statistics that the options ask for."""
    from unirae.app.run.builders import build_dataset, check_data
    from unirae.app.shell.devices import choose_data, progress_bar, reader_processes
    from unirae.core.io import file_sha256
    from unirae.evaluation.latents.statistics import compute_latent_stats
    from unirae.models.checkpoints.opening import rae_from_checkpoint

    data = choose_data(options.data, options.data_dir, checkpoint.config["data"], split="train", labels=False)
    check_data(data)
    rae = rae_from_checkpoint(checkpoint, encoder_weights=options.encoder_weights).to(device)
    data["stage2_transform"] = choose_transform(options.transform, data)
    dataset = build_dataset(data, split="train", size=rae.output_size, use="stage2", seed=options.seed)
    with progress_bar("encoding") as progress:
        return compute_latent_stats(
            rae,
            dataset,
            per=options.per,
            batch_size=options.batch_size,
            device=device,
            num_workers=reader_processes(options.num_workers, options.num_samples or len(dataset)),
            precision=options.precision,
            num_samples=options.num_samples,
            seed=options.seed,
            settings={"checkpoint": str(checkpoint.file), "checkpoint_sha256": file_sha256(checkpoint.file)},
            progress=progress,
        )


def choose_transform(choice: str, data: dict[str, Any]) -> dict[str, Any]:
    """The node of the transform that ``--transform`` means for these data.

    Checkpoints that were written before stage 2 existed name no transform. Their data are mirrored only where they
    have stage 1's random crop.
    """
    transforms = "unirae.data.transforms"
    if choice == "stage2" and "stage2_transform" in data:
        return data["stage2_transform"]
    mirrored = data["train_transform"]["_target_"] == f"{transforms}.Stage1Transform"
    flip = choice == "adm_crop_flip" or (choice == "stage2" and mirrored)
    return {"_target_": f"{transforms}.{'AdmCropFlip' if flip else 'AdmCenterCrop'}"}


def summary(stats: "LatentStats") -> str:
    """A line of numbers that shows at a glance whether the statistics are plausible."""
    from unirae.evaluation.passes.reading import spoken_data

    assert stats.mean is not None
    assert stats.var is not None
    std = stats.var.sqrt()
    return (
        f"latents over {stats.info['count']} images of {spoken_data(stats.info)}, per {stats.info['per']}: "
        f"mean {stats.mean.mean():.3f} ({stats.mean.min():.3f} to {stats.mean.max():.3f}), "
        f"std {std.mean():.3f} ({std.min():.3f} to {std.max():.3f})"
    )


def _check_output(output: Path, checkpoint: Path) -> None:
    if not output.exists():
        return
    if output.resolve() == checkpoint.resolve():
        raise ConfigError(
            f"--output {output} is the checkpoint itself, which is never changed; name a new file"
        )
    raise ConfigError(f"--output {output} exists already; name a new file, or remove it first")
