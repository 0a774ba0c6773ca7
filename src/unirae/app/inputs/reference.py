"""References for the commands: computed from data and kept in a cache, or read from a file."""

from pathlib import Path
from typing import TYPE_CHECKING

from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from unirae.data.transforms import Size
    from unirae.evaluation.passes.scoring import Needs
    from unirae.evaluation.references.reference import Purpose, Reference, ReferenceData
    from unirae.metrics.set_metrics import SetMetric


def reference_of_data(
    dataset: "ReferenceData",
    needs: "Needs",
    *,
    purpose: "Purpose",
    what: str,
    device: "torch.device",
    num_samples: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    num_workers: int | None = None,
    cache: bool = True,
) -> "Reference":
    """The reference of data, from the cache or from a pass over the data with a progress bar.

    Args:
        needs: the statistics that are kept of each kind of features.
        what: a name of the data, for the progress bar.
        cache: keep the reference, and look for it, in the user's cache folder.
    """
    from unirae.app.shell.devices import progress_bar, reader_processes
    from unirae.core.cache import cache_dir
    from unirae.evaluation.passes.reading import choose_indices
    from unirae.evaluation.references.reference import reference_from_data
    from unirae.evaluation.references.reference_cache import cached_reference

    def compute() -> "Reference":
        with progress_bar(f"reference ({what})", rate="images/s") as progress:
            return reference_from_data(
                dataset,
                needs,
                purpose=purpose,
                num_samples=num_samples,
                seed=seed,
                batch_size=batch_size,
                device=device,
                num_workers=reader_processes(num_workers, len(dataset)),
                progress=progress,
            )

    return cached_reference(
        cache_dir() / "references" if cache else None,
        dataset,
        needs,
        purpose=purpose,
        indices=choose_indices(len(dataset), num_samples, seed),
        seed=seed,
        compute=compute,
    )


def reference_of_file(
    path: str | Path,
    metrics: "Sequence[SetMetric]",
    *,
    device: "torch.device",
    size: "Size | None" = None,
    batch_size: int = 32,
    num_workers: int | None = None,
    cache: bool = True,
) -> "Reference":
    """The statistics that a file holds, as they are; what they lack is computed from its images, if it has any.

    So ADM's ``VIRTUAL_imagenet256_labeled.npz`` serves everything: FID and sFID by its stored moments of the training
    set, precision and recall by its 10,000 images.

    Raises:
        ConfigError: If the metrics need statistics that the file does not hold, or fdr6 lacks one of its six moments.
    """
    from unirae.app.inputs.images import open_images
    from unirae.evaluation.references.reference import check_fits, completed
    from unirae.evaluation.references.reference_file import holds_images, read_reference
    from unirae.metrics.set_metrics import needs

    stored = read_reference(path)
    lacking = [metric for metric in metrics if _lacks(stored, metric)]
    _check_fdr(Path(path).name, lacking)
    if not lacking or not holds_images(path):
        check_fits(stored, metrics)
        return stored
    images = open_images(str(path), size=size).images
    made = reference_of_data(
        images,
        needs(lacking, of_reference=True),
        purpose="unknown",
        what=Path(path).name,
        device=device,
        batch_size=batch_size,
        num_workers=num_workers,
        cache=cache,
    )
    return completed(stored, made)


def _check_fdr(file: str, lacking: "list[SetMetric]") -> None:
    """Refuse to mix a file's moments with some of its images: that is the reference of nobody's fdr6."""
    terms = [label for metric in lacking if metric.mean is not None for label in metric.labels.values()]
    if terms:
        raise ConfigError(
            f"--reference {file} holds no moments for {', '.join(terms)}. Give the folder of the published ones as "
            "--fdr_references, or a file of `python src/make_reference.py --metrics fdr6`"
        )


def _lacks(reference: "Reference", metric: "SetMetric") -> bool:
    if metric.reference is None:
        return False
    found = reference.statistics.get(metric.key)
    return found is None or (metric.reference.features and found.features is None)


def reference_of_spec(
    spec: str,
    metrics: "Sequence[SetMetric]",
    *,
    split: str | None,
    size: "Size | None",
    device: "torch.device",
    num_samples: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    num_workers: int | None = None,
    cache: bool = True,
    verify_contents: bool = False,
) -> "Reference":
    """The reference that ``--reference`` names: a file of statistics, or images to compute them from.

    Args:
        split: a split of a data set, or a folder below a folder.
        size: crop images to this size as ADM does; None takes them as they are.
        num_samples: a seeded random subset of the images.
        verify_contents: recognise a kept reference by every byte of the images' files.

    Raises:
        ConfigError: If an option does not apply, or the metrics need statistics that the file does not hold.
        DataError: If there are no images of that name.
    """
    from unirae.app.inputs.images import is_reference_file, open_images
    from unirae.metrics.set_metrics import needs

    reading = {"device": device, "batch_size": batch_size, "num_workers": num_workers, "cache": cache}
    spec = str(Path(spec).expanduser())
    if is_reference_file(spec):
        if num_samples is not None or split is not None:
            raise ConfigError(
                f"--reference {spec} is a file of statistics, which has neither splits nor subsets: leave out "
                "--reference_split and --reference_samples"
            )
        return reference_of_file(spec, metrics, size=size, **reading)
    return reference_of_data(
        open_images(
            spec,
            split=split,
            option="--reference_split",
            size=size,
            verify_contents=verify_contents,
            replace_unreadable=True,
        ).images,
        needs(metrics, of_reference=True),
        purpose="generation",
        what=spec,
        num_samples=num_samples,
        seed=seed,
        **reading,
    )


def require_reference(reference: str | None, names: "Sequence[str]") -> None:
    """Refuse to go on without a reference where scores need one.

    Args:
        names: the scores that need a reference.

    Raises:
        ConfigError: If a score needs a reference and ``reference`` is None.
    """
    if reference is None and names:
        raise ConfigError(f"--metrics {','.join(names)} compare with a reference; give --reference")
