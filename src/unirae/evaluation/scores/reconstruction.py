"""Scores of an autoencoder on a data set: rFID and its relatives, PSNR, SSIM, LPIPS, in one streaming pass.

The protocol, and the trap of recipe.md that each point avoids:

- the reference is the same centre-cropped images that are reconstructed, never a generation reference (1);
- every image counts once: processes share the indices without padding or duplicates, and networks run in
  chunks of a fixed size, so neither the batch size nor the process count changes a score (3);
- reconstructions are clamped, then rounded to 8 bits; sums are float64 (4);
- a Fréchet score of few images is biased upward: the count stands beside it, and below 50,000 a warning (13).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from unirae.core.distributed import all_sum
from unirae.core.errors import ConfigError, NonFiniteError
from unirae.core.exact import NETWORK_CHUNK, in_chunks
from unirae.core.images import to_float, to_uint8
from unirae.evaluation.passes.reading import EvaluationData, Precision, Progress, choose_indices, read_chunks
from unirae.evaluation.passes.scoring import Collected, SetCollector, compute_scores, program, settings_of
from unirae.evaluation.references.reference import Reference, check_fits, check_purpose
from unirae.evaluation.scores.cautions import cautions, check_counts
from unirae.evaluation.scores.record import PREFIX, Scores, is_frechet
from unirae.metrics.base import Estimate, PairMetric
from unirae.metrics.set_metrics import SetMetric, needs
from unirae.models.rae import RAE


class Reconstructor(Protocol):
    """Anything that gives images back: an RAE, or a baseline."""

    def reconstruct(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """RGB in [0, 1] to RGB of the same size, not clamped."""
        ...


class ReconstructionScores(Scores):
    """Scores of pairs of images and their reconstructions."""

    def label(self, name: str) -> str:
        """Name to quote a score by: no Fréchet score is quoted as one of generated images, ``sfid`` neither."""
        plain = is_frechet(name) and not name.startswith(PREFIX)
        return super().label(f"{PREFIX}{name}" if plain else name)


@dataclass(frozen=True, kw_only=True)
class ReconstructionMetricSet:
    """Scores of the reconstructions as a set, and of the single pairs.

    Attributes:
        names: by the labels of scores of sets those that they are recorded under: ``rfid`` for ``fid``.
    """

    names: Mapping[str, str]
    of_sets: Sequence[SetMetric] = ()
    of_pairs: Sequence[PairMetric] = ()


def evaluate_reconstruction(
    reconstructor: Reconstructor,
    dataset: EvaluationData,
    *,
    metrics: ReconstructionMetricSet,
    batch_size: int,
    reference: Reference | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    num_workers: int = 0,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ReconstructionScores:
    """Reconstruct each image of ``dataset`` once and score the pairs; every process gets the same result.

    Args:
        reconstructor: if it is a module it is put into eval mode for the duration: no latent noise.
        dataset: items with ``image``, uint8 of the reconstructor's output size, and ``index``.
        metrics: reset here, then updated; their networks must be on ``device``.
        batch_size: images read at once; it does not reach the networks.
        reference: of exactly these images, made before; without one the originals' features are computed in passing.
        num_samples: a seeded random subset of this size; all images where None.
        precision: of the reconstruction alone; metrics run in float32, their sums in float64.
        about: what the caller knows of checkpoint and data, kept with the scores.
        progress: called with (images done, images in all) of this process.

    Raises:
        DataError: If the data has no or too few images, or is cropped to another size than is reconstructed.
        ConfigError: If the reference is of another purpose, of other images, or lacks what the metrics need.
        NonFiniteError: If a reconstruction is NaN or infinite.
    """
    device = torch.device(device)
    if reference is not None:
        check_purpose(reference, "reconstruction")
        check_fits(reference, metrics.of_sets)
    indices = choose_indices(len(dataset), num_samples, seed)
    check_counts(metrics.of_sets, len(indices), "the reconstructions")
    for metric in metrics.of_pairs:
        metric.reset()
    of_originals = needs(metrics.of_sets, of_reference=True) if reference is None else []
    originals = SetCollector(of_originals, count=len(indices), device=device)
    made = SetCollector(needs(metrics.of_sets, of_reference=False), count=len(indices), device=device)
    replaced = torch.zeros((), dtype=torch.int64, device=device)
    chunks = read_chunks(
        dataset,
        indices,
        batch_size=batch_size,
        num_workers=num_workers,
        replaced=replaced,
        progress=progress,
    )
    with torch.no_grad(), _eval_mode(reconstructor):
        for positions, original in chunks:
            reconstruction = _reconstruct(reconstructor, original, precision)
            originals.update((positions, original))
            made.update((positions, reconstruction))
            for metric in metrics.of_pairs:
                metric.update(original, reconstruction)
    found, unreadable = made.compute(), int(all_sum(replaced))
    estimates, identity = _scores(metrics, originals.compute(), found, reference)
    settings = {
        "images": {
            "kind": "reconstruction",
            **(about or {}),
            **found.describe(),
            "count_available": len(dataset),
            "subset_seed": seed if len(indices) < len(dataset) else None,
            "unreadable_images_replaced": unreadable,
            "precision": precision,
        },
        "conversion": "clamp to [0, 1], round to 8 bits",
        "metrics": {
            **settings_of(metrics.of_sets, names=metrics.names),
            **{metric.name: metric.settings for metric in metrics.of_pairs},
        },
        "reference": identity,
        **program(device),
    }
    return ReconstructionScores(
        estimates=estimates,
        count=len(indices),
        settings=settings,
        warnings=cautions(
            metrics.of_sets,
            found,
            None,
            names=estimates,
            what="the reconstructions",
            replaced=unreadable,
            repeats=isinstance(reconstructor, nn.Module),  # a baseline may well give one picture for two
        ),
    )


def _scores(
    metrics: ReconstructionMetricSet, real: Collected, made: Collected, reference: Reference | None
) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """Compute every score, and describe the reference that was compared with."""
    identity = {"purpose": "reconstruction", "images": "the originals, cropped alike", **real.describe()}
    if reference is not None:
        if reference.identity["content_sha256"] != identity["content_sha256"]:
            raise ConfigError(
                f"{reference.identity.get('file', 'the reference')} was made of other images than were reconstructed "
                f"here ({reference.identity['count']} of {reference.identity['data']} there, {real.count} here): give "
                "the same data, count and seed, or leave the reference out"
            )
        identity |= {key: reference.identity.get(key) for key in ("file", "sha256")}
    statistics = real.statistics if reference is None else reference.statistics
    scores = compute_scores(metrics.of_sets, made.statistics, statistics)
    pairs = {metric.name: metric.compute() for metric in metrics.of_pairs}
    return {**{metrics.names[label]: estimate for label, estimate in scores.items()}, **pairs}, identity


@contextmanager
def _eval_mode(reconstructor: Reconstructor) -> Iterator[None]:
    """Eval mode within the block; each module's own mode afterwards (a frozen encoder stays in eval mode)."""
    modules = list(reconstructor.modules()) if isinstance(reconstructor, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _reconstruct(
    reconstructor: Reconstructor, original: UInt8[Tensor, "b 3 H W"], precision: Precision
) -> UInt8[Tensor, "b 3 H W"]:
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    context = nullcontext() if dtype is None else torch.autocast(original.device.type, dtype=dtype)
    # what calling an RAE does is its reconstruct without a look at the values, which would wait for the GPU
    network = reconstructor if isinstance(reconstructor, RAE) else reconstructor.reconstruct
    with context:
        result = in_chunks(network, to_float(original), NETWORK_CHUNK)
    if result.shape != original.shape:
        (height, width), (out_height, out_width) = original.shape[-2:], result.shape[-2:]
        raise ConfigError(
            f"the data is cropped to {height}×{width} px, the decoder puts out {out_height}×{out_width} px; "
            f"crop the data to {out_height}×{out_width}"
        )
    if not result.isfinite().all():
        raise NonFiniteError(
            "a reconstruction holds NaN or inf: the checkpoint is broken, or 16 bits overflowed (try fp32)"
        )
    return to_uint8(result)
