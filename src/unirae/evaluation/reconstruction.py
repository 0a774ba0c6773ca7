"""Scores of a reconstructor on a data set: rFID and its relatives, PSNR, SSIM, LPIPS, in one streaming pass.

The protocol, and the trap of recipe.md that each point avoids:

- the reference is the same centre-cropped images that are reconstructed, never a generation reference (1);
- every image counts once: processes share the indices without padding or duplicates, and networks run in
  chunks of a fixed size, so neither the batch size nor the process count changes a score (3);
- reconstructions are clamped, then rounded to 8 bits; sums are float64 (4);
- a Fréchet score of few images is biased upward: the count stands beside it, and below 50,000 a warning (13).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

import unirae
from unirae.core.distributed import all_sum, shard
from unirae.core.errors import ConfigError, DataError, NonFiniteError
from unirae.core.exact import NETWORK_CHUNK, in_chunks, rechunk
from unirae.core.images import to_float, to_uint8
from unirae.data.dataset import ImageDataset
from unirae.evaluation.scores import Scores, warn_of_bias
from unirae.metrics.base import ReconstructionMetric

Precision = Literal["fp32", "bf16", "fp16"]
Progress = Callable[[int, int], None]


class EvaluationData(Protocol):
    """A map-style data set of dictionaries with ``image`` (uint8, "3 H W", all of one size) and ``index``."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, key: int, /) -> dict[str, Any]:
        """One image; ``index`` differs from ``key`` where an unreadable image was replaced by another."""
        ...


class Reconstructor(Protocol):
    """Anything that gives images back: an RAE, or a baseline."""

    def reconstruct(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """RGB in [0, 1] to RGB of the same size, not clamped."""
        ...


class ReconstructionScores(Scores):
    """Of pairs of images and their reconstructions."""


def evaluate_reconstruction(
    reconstructor: Reconstructor,
    dataset: EvaluationData,
    *,
    metrics: Sequence[ReconstructionMetric],
    batch_size: int,
    num_samples: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    num_workers: int = 0,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ReconstructionScores:
    """Reconstruct each image of ``dataset`` once and score the pairs; every process gets the same result.

    Args:
        reconstructor: if it is a module it is put into eval mode for the duration: no latent noise.
        dataset: items with ``image``, uint8 of the reconstructor's output size, and ``index``.
        metrics: reset here, then updated; their networks must be on ``device``.
        batch_size: images read at once; it does not reach the networks.
        num_samples: a seeded random subset of this size; all images where None.
        precision: of the reconstruction alone; metrics run in float32, their sums in float64.
        settings: what the caller knows of checkpoint and data, kept with the scores.
        progress: called with (images done, images in all) of this process.

    Raises:
        DataError: the data has no or too few images, or is cropped to another size than is reconstructed.
        NonFiniteError: a reconstruction is NaN or infinite.
    """
    device = torch.device(device)
    indices = choose_indices(len(dataset), num_samples, seed)
    own = [indices[i] for i in shard(len(indices))]
    for metric in metrics:
        metric.reset()
    replaced = torch.zeros((), dtype=torch.int64, device=device)
    done, size_px = 0, None
    with torch.no_grad(), _eval_mode(reconstructor):
        for chunk in rechunk(read_images(dataset, own, batch_size, num_workers, replaced), NETWORK_CHUNK):
            original = chunk.to(device, non_blocking=True)
            reconstruction = _reconstruct(reconstructor, original, precision)
            for metric in metrics:
                metric.update(original, reconstruction)
            done, size_px = done + len(chunk), list(chunk.shape[-2:])
            if progress is not None:
                progress(done, len(own))
    scores = {name: value for metric in metrics for name, value in metric.compute().items()}
    warn_of_bias(scores, len(indices))
    own_settings = {
        "size_px": size_px,
        "count": len(indices),
        "count_available": len(dataset),
        "subset_seed": seed if len(indices) < len(dataset) else None,
        "unreadable_images_replaced": int(all_sum(replaced)),
        "precision": precision,
        "conversion": "clamp to [0, 1], round to 8 bits",
        "network_chunk": NETWORK_CHUNK,
        "device": device.type,
        "metrics": {metric.name: metric.settings for metric in metrics},
        "versions": {"unirae": unirae.__version__, "torch": torch.__version__},
    }
    return ReconstructionScores(
        scores=scores, count=len(indices), settings={**(settings or {}), **own_settings}
    )


def choose_indices(available: int, num_samples: int | None, seed: int) -> list[int]:
    """All indices, or a seeded random subset in ascending order (the first N may be one class)."""
    if available == 0:
        raise DataError("the data set to evaluate on is empty; choose another split or folder")
    if num_samples is None or num_samples == available:
        return list(range(available))
    if not 1 <= num_samples <= available:
        raise DataError(
            f"num_samples={num_samples}, but the data set has {available} images; give 1 to {available}"
        )
    generator = torch.Generator().manual_seed(seed)
    return sorted(torch.randperm(available, generator=generator)[:num_samples].tolist())


def describe_data(dataset: ImageDataset) -> dict[str, Any]:
    """What identifies the evaluated images, for ``settings``."""
    return {"data": dataset.source.name, "fingerprint": dataset.source.fingerprint}


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


def read_images(
    dataset: EvaluationData, indices: list[int], batch_size: int, num_workers: int, replaced: Tensor
) -> Iterator[UInt8[Tensor, "b 3 H W"]]:
    """Batches of the images at ``indices``; how many had to be replaced is added to ``replaced``."""
    loader = DataLoader(Subset(dataset, indices), batch_size=batch_size, num_workers=num_workers)  # type: ignore[arg-type]
    for start, batch in enumerate(loader):
        expected = torch.tensor(indices[start * batch_size : (start + 1) * batch_size])
        replaced += (batch["index"] != expected).sum().to(replaced.device)
        yield batch["image"]


def _reconstruct(
    reconstructor: Reconstructor, original: UInt8[Tensor, "b 3 H W"], precision: Precision
) -> UInt8[Tensor, "b 3 H W"]:
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    context = nullcontext() if dtype is None else torch.autocast(original.device.type, dtype=dtype)
    with context:
        result = in_chunks(reconstructor.reconstruct, to_float(original), NETWORK_CHUNK)
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
