"""``python src/sample_dit.py --checkpoint C``: new images from a stage-2 checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unirae.app.config.schema.kinds import Count, OutputFolder
from unirae.app.inputs.generator import compiled, describe_program, labels_of, open_generator
from unirae.app.inputs.prompt_options import PromptOptions, prompts_of
from unirae.app.inputs.sampler_options import SamplerOptions
from unirae.app.shell.options import Flag, command

if TYPE_CHECKING:
    import torch

    from unirae.app.inputs.generator import Generator
    from unirae.app.inputs.prompt_list import PromptList
    from unirae.app.pictures.sample_folder import SampleFolder

_DEFAULT_COUNT = 64


@dataclass(frozen=True, kw_only=True)
class Options(PromptOptions, SamplerOptions):
    """Sample images from a stage-2 checkpoint, which is all that is needed: of classes, or of prompts.

    Writes OUTPUT_DIR/000000.png …, grid.png (the first 64), labels.csv or metadata.jsonl, and settings.json.
    Repeat the command to continue after an interruption, or with more --num_samples. Run it under torchrun to
    use several devices; the files stay the same.
    """

    num_samples: Count | None = None
    """Number of images. Default: the number of --labels, or 64; of prompts, their number."""
    labels: str | None = None
    """Class numbers or names, comma-separated, taken in turn. name=1 is the class of that name, number=1 the
    second class, where a word could be both. Default: see --label_sampling."""
    output_dir: OutputFolder = Path("outputs/samples")
    """The folder to write the images into: a new one, or one of the same settings to continue."""
    npz: Flag = False
    """Also write samples.npz in ADM's layout: arr_0, uint8 [N, H, W, 3]."""


def run(options: Options) -> Path:
    """Sample and write; returns the folder."""
    prompts = prompts_of(options, labels=options.labels, num_samples=options.num_samples)
    with options.computing() as device:
        generator = open_generator(options, device, labels=options.labels, prompts=prompts)
        folder = _folder(options, generator, prompts)
        generator = compiled(generator, options, folder.count, device)
        fill(folder, generator, device, npz=options.npz)
    return options.output_dir


def _folder(options: Options, generator: "Generator", prompts: "PromptList | None") -> "SampleFolder":
    """The folder of the images."""
    from unirae.app.pictures.sample_folder import SampleFolder
    from unirae.evaluation.sampling.requests import LabelRule

    if prompts is not None:
        return SampleFolder.of_prompts(
            options.output_dir,
            settings=generator.settings,
            prompts=prompts,
            layout=options.layout,
            size=generator.sampler.rae.output_size,
        )
    rule = generator.sampler.rule
    given = len(rule.given) if isinstance(rule, LabelRule) else 0
    count = options.num_samples if options.num_samples is not None else given or _DEFAULT_COUNT
    return SampleFolder(options.output_dir, settings=generator.settings, count=count)


main = command(Options, run, kept="the images in {output_dir} stay: repeat the command to go on from here")


def fill(folder: "SampleFolder", generator: "Generator", device: "torch.device", *, npz: bool) -> None:
    """Sample the images that the folder lacks, then draw its overview.

    Raises:
        ConfigError: If the folder holds images of other settings.
    """
    from unirae.core.distributed import barrier, is_main
    from unirae.core.log import get_logger

    log = get_logger(__name__)
    folder.check()  # in every process, before any of them writes
    barrier()
    made_with = describe_program(generator, device)
    labels = labels_of(generator, folder.count)
    if is_main():
        folder.write_record(made_with, labels, folder.evaluations_before)
    barrier()
    made = _sample(folder, generator, device)
    barrier()
    evaluations = generator.sampler.evaluations_of_all(folder.evaluations_before)
    if is_main():
        folder.write_record(made_with, labels, evaluations)
        if folder.prompts is None:
            folder.write_labels(labels, generator.about["class_names"])
        folder.write_captions()
        folder.write_grid()
        if npz:
            log.info("ADM's layout: %s", folder.write_npz())
        log.info("%d images (%d new): %s", folder.count, made, folder.folder)
    barrier()


def _sample(folder: "SampleFolder", generator: "Generator", device: "torch.device") -> int:
    """Sample batch by batch, the processes in turn; returns how many images all of them made."""
    import torch

    from unirae.app.shell.devices import progress_bar
    from unirae.core.distributed import gather, own_batches, world_size

    batches = own_batches(folder.count, generator.sampler.batch_size)
    missing = [batch for batch in batches if not folder.is_complete(batch)]
    total, done, new = sum(map(len, missing)), 0, 0
    what = "sampling" if world_size() == 1 else f"sampling (process 1 of {world_size()})"
    with progress_bar(what, rate="images/s") as progress:
        progress(done, total)
        for batch in missing:
            images = generator.sampler(torch.arange(batch.start, batch.stop, device=device))
            new += folder.save(batch, images.cpu())
            done += len(batch)
            progress(done, total)
    return sum(gather(new))
