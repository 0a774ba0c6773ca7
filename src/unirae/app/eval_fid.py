"""``python src/eval_fid.py --checkpoint C``: sample and score in one go, without storing images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unirae.app.config.schema.kinds import Count, OutputFile
from unirae.app.inputs.clip import ClipOptions, of_prompts
from unirae.app.inputs.fdr import FdrReferenceOptions, fdr_sources
from unirae.app.inputs.generator import compiled, describe_program, labels_of, open_generator
from unirae.app.inputs.options import ReferenceOptions, run_folder
from unirae.app.inputs.sampler_options import SamplerOptions
from unirae.app.shell.argument_names import WITH_DATA_DIR
from unirae.app.shell.options import command
from unirae.core.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import torch

    from unirae.app.inputs.generator import Generator
    from unirae.app.inputs.prompt_list import PromptList
    from unirae.evaluation.references.reference import Reference
    from unirae.evaluation.scores.record import Scores
    from unirae.metrics.set_metrics import SetMetric


@dataclass(frozen=True, kw_only=True)
class ScoringOptions(FdrReferenceOptions, ReferenceOptions, ClipOptions):
    """The options of scoring samples."""

    reference: str = "data"
    """Reference to compare with: data (see --data); an npz with mu and sigma (ADM, pytorch-fid) or images (arr_0); a
    file of make_reference.py; a folder of images or a Hugging Face dataset, cropped to the size of the samples."""
    split: Literal["train", "val"] | None = None
    """Split of the data that is the reference, where --reference is data. Default: train."""
    data: str | None = None
    """Reference data: emoji, photos, hf, image_folder, tar_shards, synthetic, or a folder. Default: what the checkpoint
    was trained on."""
    data_dir: Path | None = None
    """The folder of the data. Default: the one that the configuration names."""
    reference_samples: Count | None = None
    """Images in a seeded random subset of the data, which is the reference. Default: every image."""
    num_samples: Count = 50_000
    """Images to sample. Fréchet distances of fewer images are biased upward."""
    metrics: str = "fid"
    """The scores, comma-separated: fid, sfid, is, kid, mind, precision, recall, density, coverage (Inception),
    fdr6 (see --fdr_references), fd and mind_fd (the features of the autoencoder's encoder), and of models that were
    trained on captions clip_score (see --clip)."""
    prompts: Path | None = None
    """The prompts of a model that was trained on captions, as of sample_dit.py. Default: the captions of --split of the
    data, spread evenly where there are more than --num_samples."""
    encoder_weights: str | None = None
    """The encoder's weights for fd, a folder or file. Default: where the autoencoder's checkpoint says."""


@dataclass(frozen=True, kw_only=True)
class Options(ScoringOptions, SamplerOptions):
    """Sample from a checkpoint and score the samples: FID and its relatives, also in the features of its encoder.

    For ImageNet give ADM's file (VIRTUAL_imagenet256_labeled.npz) as --reference: published gFIDs rest on it.
    For your own data the reference is the training split, centre-cropped. Run it under torchrun to use several
    devices; the samples stay the same.
    """

    output: OutputFile | None = None
    """The JSON file with scores and settings. Default: eval/fid-….json in the checkpoint's run folder."""


def run(options: Options) -> "Scores":
    """Sample, score, write the JSON file and show the table."""
    from unirae.app.shell.tables import show_and_write
    from unirae.core.distributed import is_main

    with options.computing() as device:
        names = [name.strip() for name in options.metrics.split(",")]
        generator = open_for_scoring(options, names, device)
        result = evaluate(options, names, generator, device)
        if is_main():
            output = options.output or default_output(options, generator, result)
            labels = result.settings["images"]["sampler"]["label_sampling"]
            of = "of prompts" if labels == "prompts" else f"{labels} labels"
            show_and_write(result, title=f"{result.count} samples, {of}", output=output)
    return result


main = command(
    Options,
    run,
    kept="no scores were written; what the caches hold stays. Repeat the command",
    names=WITH_DATA_DIR,
)


def open_for_scoring(options: Options, names: list[str], device: "torch.device") -> "Generator":
    """The opened checkpoint, with its encoder only where the encoder's features are compared."""
    from unirae.metrics.set_metrics import need_encoder

    return open_generator(
        options,
        device,
        prompts=lambda about: prompts_to_score(options, about),
        with_encoder=need_encoder(names),
        encoder_weights=options.encoder_weights,
    )


def prompts_to_score(options: ScoringOptions, about: dict[str, Any]) -> "PromptList":
    """The prompts of the samples: those of the file, or the captions of the images of a split.

    Args:
        about: what the checkpoint says of itself.

    Raises:
        DataError: If the file is missing or not understood, or no image has a caption.
    """
    from unirae.app.config.targets import build
    from unirae.app.inputs.prompt_list import PromptList
    from unirae.app.inputs.prompts import Prompt, read_prompts
    from unirae.app.shell.devices import choose_data
    from unirae.data.captions import Captioned, drawn_caption

    if options.prompts is not None:
        return PromptList(prompts=read_prompts(options.prompts))
    split = options.split or "train"
    data = choose_data(
        options.data,
        options.data_dir,
        about["config"]["data"],
        split=split,
        labels=False,
        verify_contents=options.verify_contents,
    )
    source = Captioned(build(data["source"], split=split), missing=data["missing_captions"], split=split)
    count = min(options.num_samples, len(source))
    chosen = (number * len(source) // count for number in range(count))
    return PromptList(prompts=[Prompt(text=drawn_caption(source, i, seed=0, epoch=0)) for i in chosen])


def evaluate(options: Options, names: list[str], generator: "Generator", device: "torch.device") -> "Scores":
    """Score the samples. References come first, since their mistakes show at once."""
    metrics = build_metrics(options, names, generator, device)
    reference = open_reference(options, metrics, generator, device)
    return score_samples(
        compiled(generator, options, options.num_samples, device),
        options.num_samples,
        metrics=metrics,
        reference=reference,
        device=device,
    )


def build_metrics(
    options: Options, names: list[str], generator: "Generator", device: "torch.device"
) -> "list[SetMetric]":
    """The metrics with their networks."""
    from unirae.evaluation.scores.metric_set import MetricSources, build_set_metrics, encoder_extractor
    from unirae.metrics.set_metrics import need_encoder

    rae = generator.sampler.rae
    encoder = encoder_extractor(rae.encoder, rae.encoder_input_size) if need_encoder(names) else None
    sources = MetricSources(
        device=device,
        inception_weights=options.inception_weights,
        encoder=encoder,
        confidence=options.confidence_with(options.seed),
        is_order=options.is_order,
        **fdr_sources(options, names),
        **of_prompts(options, names, lambda: _prompts_of(generator, options.num_samples)),
    )
    try:
        return build_set_metrics(names, sources)
    except WeightsError as error:
        if "clip_score" in names:
            raise
        raise WeightsError(f"{error} Or compare other features: --metrics fd") from None


def _prompts_of(generator: "Generator", count: int) -> list[str]:
    """The prompt of each sample.

    Raises:
        ConfigError: If the model was trained on labels.
    """
    import torch

    from unirae.evaluation.sampling.requests import PromptRule

    rule = generator.sampler.rule
    if not isinstance(rule, PromptRule):
        raise ConfigError(
            f"--metrics clip_score compares samples with their prompts, and {generator.checkpoint} was trained on "
            "labels"
        )
    return rule.prompts_of(torch.arange(count))


def open_reference(
    options: Options, metrics: "list[SetMetric]", generator: "Generator", device: "torch.device"
) -> "Reference | None":
    """The reference: a file, images, or the configured split of the data; None if no metric needs one.

    Images are cropped to the size of the samples.

    Raises:
        ConfigError: If options name the reference twice, or choose a part of another reference.
    """
    from unirae.app.inputs.reference import reference_of_data, reference_of_spec
    from unirae.app.run.builders import build_dataset
    from unirae.app.shell.devices import choose_data
    from unirae.metrics.set_metrics import needs

    if all(metric.reference is None for metric in metrics):
        return None
    size = generator.sampler.rae.output_size
    reading = {
        "device": device,
        "num_samples": options.reference_samples,
        "seed": options.seed,
        "batch_size": options.batch_size,
        "num_workers": options.num_workers,
        "cache": options.cache,
    }
    _refuse_of_other_references(options)
    if options.reference != "data":
        return reference_of_spec(
            options.reference,
            metrics,
            split=options.reference_split,
            size=size,
            verify_contents=options.verify_contents,
            **reading,
        )
    split = options.split or "train"
    data = choose_data(
        options.data,
        options.data_dir,
        generator.about["config"]["data"],
        split=split,
        labels=False,
        verify_contents=options.verify_contents,
    )
    return reference_of_data(
        build_dataset(data, split=split, size=size, use="eval"),
        needs(metrics, of_reference=True),
        purpose="generation",
        what=f"{split} split",
        **reading,
    )


def _refuse_of_other_references(options: Options) -> None:
    """Refuse an option of the other kind of reference, which would be ignored."""
    if options.reference == "data":
        if options.reference_split is not None:
            raise ConfigError(
                f"--reference_split {options.reference_split} chooses a part of what --reference names, which is the "
                "checkpoint's data or --data; of these choose with --split train or --split val"
            )
        return
    for name in ("data", "data_dir"):
        if getattr(options, name) is not None:
            raise ConfigError(
                f"--{name} names the reference, and so does --reference {options.reference}; leave one out"
            )
    if options.split is not None:
        raise ConfigError(
            f"--split {options.split} chooses a part of the checkpoint's data or of --data, but --reference "
            f"{options.reference} names other images; of these choose with --reference_split"
        )


def score_samples(
    generator: "Generator",
    count: int,
    *,
    metrics: "list[SetMetric]",
    reference: "Reference | None",
    device: "torch.device",
) -> "Scores":
    """Sample and score; the settings say everything about the sampler."""
    from unirae.app.shell.devices import progress_bar
    from unirae.evaluation.scores.generation import evaluate_generation

    with progress_bar("sampling", rate="images/s") as progress:
        result = evaluate_generation(
            generator.sampler,
            count,
            metrics=metrics,
            reference=reference,
            batch_size=generator.sampler.batch_size,
            device=device,
            about={"sampler": generator.settings},
            progress=progress,
        )
    result.settings.update(
        {
            **_conditions_sampled(generator, count),
            "network_evaluations": generator.sampler.evaluations_of_all(),
            "made_with": describe_program(generator, device),
        }
    )
    return result


def _conditions_sampled(generator: "Generator", count: int) -> dict[str, int]:
    from unirae.evaluation.sampling.requests import PromptRule

    if isinstance(generator.sampler.rule, PromptRule):
        return {"prompts_sampled": len(set(_prompts_of(generator, count)))}
    return {"classes_sampled": len(set(labels_of(generator, count)))}


def default_output(options: Options, generator: "Generator", result: "Scores") -> Path:
    """``eval/fid-….json`` in the run's folder, named by what differs most often between evaluations.

    A hash of everything that decides the scores, as far as the settings know it, tells all others apart.
    """
    from unirae.core.io import short_code

    reference = options.split or "train" if options.reference == "data" else Path(options.reference).stem
    used = generator.sampler.settings
    internal = f"-ig{used.ig_scale:g}" if used.uses_ig else ""
    sampler = f"{used.solver}{used.num_steps}-cfg{used.cfg_scale:g}{internal}"
    weights = "ema" if options.use_ema else "raw"
    decisive = {key: result.settings[key] for key in ("metrics", "reference")}
    decisive |= {"sampler": result.settings["images"]["sampler"], "count": result.count}
    parts = (generator.checkpoint.stem, weights, reference, sampler, result.count, short_code(decisive))
    name = f"fid-{'-'.join(map(str, parts))}.json"
    return run_folder(generator.checkpoint) / "eval" / name
