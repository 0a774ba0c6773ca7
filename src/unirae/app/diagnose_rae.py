"""``python src/diagnose_rae.py --checkpoint C [--against D]``: how a decoder takes imperfect latents."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unirae.app.config.schema.kinds import Count, OutputFolder, Seed
from unirae.app.inputs.options import AutoencoderOptions, DataOptions, DeviceOptions, run_folder
from unirae.app.shell.argument_names import WITH_DATA_DIR
from unirae.app.shell.options import Switch, command
from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from unirae.evaluation.diagnosis.diagnose import Diagnosis
    from unirae.models.checkpoints.reading import Checkpoint
    from unirae.models.rae import RAE

_IMAGES = 500
"""Images where nothing is said: enough for a Fréchet distance in small features, and minutes at most."""


@dataclass(frozen=True, kw_only=True)
class Options(AutoencoderOptions, DataOptions, DeviceOptions):
    """Decode latents that no encoder gave: noised, between two images, without one of the encoder's blocks.

    Two decoders of equal rFID can differ in what a generator makes of them. Writes a page with pictures and curves,
    diagnosis.html, and the figures, diagnosis.json. The checkpoint is all that is needed: it knows its model and data.
    """

    against: Path | None = None
    """A second stage-1 checkpoint, or the folder of a run, to show beside the first, in the first one's features."""
    data: str | None = None
    """emoji, photos, hf, image_folder, tar_shards, synthetic (the validation split), or a folder, all of whose
    images are taken unless it has a validation part. Default: what the checkpoint was trained on."""
    num_samples: Count | None = None
    """Number of images, a seeded random subset. Default: 500, or all where there are fewer."""
    batch_size: Count = 32
    """Images that are read at once. No figure depends on it."""
    use_ema: Switch = True
    """Diagnose the averaged decoder; false takes the raw one."""
    output_dir: OutputFolder | None = None
    """The folder to write into. Default: diagnosis in the checkpoint's run folder."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of encoder and decoder. Features are always in float32."""
    seed: Seed = 0
    """Seed of the subset, of the noise, and of who is interpolated with whom."""


def run(options: Options) -> "list[Diagnosis]":
    """Diagnose, and write the page and the figures; returns a diagnosis for each checkpoint."""
    from unirae.app.diagnosis.page import show, write_page
    from unirae.core.distributed import is_main
    from unirae.models.checkpoints.reading import open_checkpoint

    with options.computing() as device:
        paths = [options.checkpoint, *([options.against] if options.against else [])]
        checkpoints = [open_checkpoint(path, kind="stage1") for path in paths]
        found = diagnose_all(options, checkpoints, device)
        if is_main():
            folder = options.output_dir or run_folder(checkpoints[0].file) / "diagnosis"
            show(found)
            write_page(folder, found)
    return found


main = command(Options, run, kept="no page was written. Repeat the command", names=WITH_DATA_DIR)


def diagnose_all(
    options: Options, checkpoints: "list[Checkpoint]", device: "torch.device"
) -> "list[Diagnosis]":
    """The diagnosis of each checkpoint, on the same images and in the features of the first one's encoder.

    Raises:
        ConfigError: If the checkpoints decode to different sizes.
    """
    from unirae.app.run.builders import build_dataset, check_data
    from unirae.app.shell.devices import choose_data, progress_bar, reader_processes
    from unirae.evaluation.diagnosis.diagnose import diagnose
    from unirae.evaluation.passes.reading import describe_data
    from unirae.evaluation.scores.metric_set import encoder_extractor
    from unirae.models.checkpoints.opening import rae_from_checkpoint

    data = choose_data(options.data, options.data_dir, checkpoints[0].config["data"], labels=False)
    check_data(data)
    raes = [
        rae_from_checkpoint(checkpoint, ema=options.use_ema, encoder_weights=options.encoder_weights)
        for checkpoint in checkpoints
    ]
    _check_alike(raes)
    dataset = build_dataset(data, split="val", size=raes[0].output_size, use="eval")
    raes[0].to(device)
    extractor = encoder_extractor(raes[0].encoder, raes[0].encoder_input_size)
    count = options.num_samples or min(_IMAGES, len(dataset))
    found = []
    for checkpoint, rae in zip(checkpoints, raes, strict=True):
        with progress_bar(f"diagnosing {checkpoint.file.parent.parent.name}") as progress:
            found.append(
                diagnose(
                    rae.to(device),
                    dataset,
                    extractor=extractor,
                    num_samples=count,
                    seed=options.seed,
                    batch_size=options.batch_size,
                    device=device,
                    precision=options.precision,
                    num_workers=reader_processes(options.num_workers, count),
                    about={**_identity(checkpoint, rae, ema=options.use_ema), **describe_data(dataset)},
                    progress=progress,
                )
            )
    return found


def _check_alike(raes: "list[RAE]") -> None:
    sizes = [rae.output_size for rae in raes]
    if len(set(sizes)) > 1:
        (one, two) = (f"{height}×{width}" for height, width in sizes)
        raise ConfigError(
            f"--against decodes to {two} px and --checkpoint to {one} px: figures of different sizes say nothing "
            "beside each other. Diagnose each by itself"
        )


def _identity(checkpoint: "Checkpoint", rae: "RAE", *, ema: bool) -> dict[str, Any]:
    from unirae.core.io import file_sha256

    return {
        "checkpoint": str(checkpoint.file),
        "checkpoint_sha256": file_sha256(checkpoint.file),
        "trained_with": {key: checkpoint.about[key] for key in ("version", "commit", "step")},
        "weights": "EMA" if ema else "raw",
        "encoder": rae.token_identity,
        "noise_tau": rae.noise_tau,
        "layer_dropout": rae.layer_dropout,
    }


if __name__ == "__main__":
    raise SystemExit(main())
