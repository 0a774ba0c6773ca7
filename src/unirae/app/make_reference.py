"""``python src/make_reference.py --data DIR --output FILE``: statistics of images, to compare others with."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unirae.app.config.schema.kinds import Count, OutputFile, Seed, Size
from unirae.app.inputs.fdr import FdrOptions, fdr_sources
from unirae.app.inputs.features import EncoderOptions, encoder_extractor_of
from unirae.app.inputs.options import DeviceOptions, InceptionOptions, ReadingOptions
from unirae.app.shell.options import Flag, command
from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from unirae.evaluation.references.reference import Reference


@dataclass(frozen=True, kw_only=True)
class Options(EncoderOptions, FdrOptions, InceptionOptions, ReadingOptions, DeviceOptions):
    """Read images once and write everything that scores need of them into one npz file.

    The file holds mu and sigma under the names of ADM's and pytorch-fid's files, so their tools read it, too, and
    everything that identifies it: data, split, crop, size, count, the networks with the hashes of their weights. Run it
    under torchrun to use several devices; the file stays the same.
    """

    data: str
    """A folder of images, an npz (arr_0), a Hugging Face dataset, or a name in configs/data."""
    output: OutputFile
    """The npz file to write."""
    purpose: Literal["generation", "reconstruction"] = "generation"
    """Generated images are compared with the training images, reconstructions with the very images that were
    reconstructed. A score of the other kind refuses the file."""
    split: str | None = None
    """Split of a data set, by its own name or as train or val; or a folder below a folder of images."""
    size: Size | None = None
    """Size in pixels to which images are cropped as ADM does: one number for a square, or height and width. Default:
    images as they are, all of one size."""
    num_samples: Count | None = None
    """Number of images, a seeded random subset. Default: every image."""
    seed: Seed = 0
    """Seed that chooses the subset."""
    metrics: str = "fid,sfid"
    """Scores that the file is for, comma-separated: fid, sfid, kid, precision, recall, density, coverage, fdr6
    (the moments of all six spaces), fd (see --encoder)."""
    features: Flag = False
    """Keep the features of every image, even where the scores need only their mean and covariance."""
    batch_size: Count = 64
    """Images in a batch. The file does not depend on it."""


def run(options: Options) -> Path:
    """Compute and write; returns the file."""
    from unirae.core.distributed import is_main
    from unirae.core.log import get_logger
    from unirae.evaluation.references.reference_file import write_reference

    if options.output.suffix != ".npz":
        raise ConfigError(f"--output {options.output}: the file is an npz; give a name that ends in .npz")
    with options.computing() as device:
        reference = make(options, device)
        if is_main():
            write_reference(options.output, reference)
            get_logger(__name__).info(
                "%d images of %s px, %s: %s",
                reference.identity["count"],
                "×".join(map(str, reference.identity["size_px"])),
                ", ".join(reference.statistics),
                options.output,
            )
    return options.output


main = command(Options, run)


def make(options: Options, device: "torch.device") -> "Reference":
    """Compute the reference that the options ask for."""
    from unirae.app.inputs.images import open_images
    from unirae.app.inputs.reference import reference_of_data
    from unirae.evaluation.scores.cautions import cautions_of_reference
    from unirae.evaluation.scores.metric_set import MetricSources, build_set_metrics
    from unirae.evaluation.scores.record import warn_once
    from unirae.metrics.set_metrics import need_encoder, needs
    from unirae.metrics.statistics import Keep

    names = [name.strip() for name in options.metrics.split(",")]
    if "is" in names:
        raise ConfigError("--metrics is: the Inception Score looks at the images alone and has no reference")
    if "clip_score" in names:
        raise ConfigError(
            "--metrics clip_score: it compares each image with its prompt and has no reference; score images with "
            "evaluate.py --images"
        )
    images = open_images(options.data, split=options.split, size=options.size, replace_unreadable=True).images
    encoder = encoder_extractor_of(options, asked=need_encoder(names), device=device)
    sources = MetricSources(
        device=device,
        inception_weights=options.inception_weights,
        encoder=encoder,
        **fdr_sources(options, names),
    )
    metrics = build_set_metrics(names, sources)
    wanted = needs(metrics, of_reference=True)
    if options.features:
        more = Keep(features=True)
        wanted = [(extractor, {out: keep | more for out, keep in kept.items()}) for extractor, kept in wanted]
    reference = reference_of_data(
        images,
        wanted,
        purpose=options.purpose,
        what=options.data,
        device=device,
        num_samples=options.num_samples,
        seed=options.seed,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        cache=False,
    )
    for caution in cautions_of_reference(metrics, reference.identity, known=set(reference.extractors)):
        warn_once(caution)
    return reference
