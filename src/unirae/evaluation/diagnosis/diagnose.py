"""Diagnosis of an autoencoder: how its decoder takes latents that are not quite those of images.

Each figure is of decoded images against the originals: PSNR where the image should be the original still, the Fréchet
distance in an encoder's features, and the seams between patches. Which of them foretells the samples of a generator is
measured in docs/results.md.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from unirae.core.errors import DataError, NonFiniteError
from unirae.core.images import to_float, to_uint8
from unirae.evaluation.diagnosis.changes import Batch, Change, Kind, all_changes
from unirae.evaluation.diagnosis.seams import Seams
from unirae.evaluation.diagnosis.spectrum import Spectrum, channel_deviation, spectrum_of
from unirae.evaluation.passes.encoding import inference_context
from unirae.evaluation.passes.reading import (
    Chunk,
    EvaluationData,
    Precision,
    Progress,
    choose_indices,
    read_chunks,
)
from unirae.evaluation.passes.scoring import program
from unirae.flow.times import time_shift
from unirae.metrics.extractors import FeatureExtractor
from unirae.metrics.frechet import frechet_distance
from unirae.metrics.moments import MomentAccumulator, Moments
from unirae.metrics.pixel import mean_psnr
from unirae.models.rae import RAE

SHOWN = 6
"""Images on the page."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Figures of the images decoded after one change.

    Attributes:
        psnr: mean over images in dB; None where the image should be another.
        frechet: Fréchet distance to the originals.
        seams: see :class:`~unirae.evaluation.diagnosis.seams.Seams`.
    """

    kind: Kind
    amount: float
    psnr: float | None
    frechet: float
    seams: float


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Result of a diagnosis.

    Attributes:
        seams: of the originals.
        time_shift: that a generator of these latents would have (RAE paper, section 4.2).
        settings: everything that decides the figures, JSON-able.
        pictures: some originals, uint8 [n, 3, H, W], and the same decoded after each change.
    """

    outcomes: tuple[Outcome, ...]
    seams: float
    spectrum: Spectrum
    time_shift: float
    count: int
    settings: dict[str, Any]
    pictures: tuple[Tensor, ...] = ()

    def curve(self, kind: Kind) -> list[Outcome]:
        """The outcomes of one kind of change, by rising amount."""
        return [outcome for outcome in self.outcomes if outcome.kind == kind]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, ready for JSON."""
        return {
            "count": self.count,
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
            "seams_of_originals": self.seams,
            "latents": {
                "effective_rank": self.spectrum.effective_rank,
                "directions_for_90_percent": self.spectrum.directions_for(0.9),
                "channels": len(self.spectrum.shares),
                "time_shift": self.time_shift,
                "shares_of_variance": list(self.spectrum.shares),
            },
            "settings": self.settings,
        }

    def at(self, kind: Kind, amount: float) -> Outcome:
        """The outcome of one change."""
        return next(outcome for outcome in self.curve(kind) if outcome.amount == amount)


def diagnose(
    rae: RAE,
    dataset: EvaluationData,
    *,
    extractor: FeatureExtractor,
    num_samples: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    num_workers: int = 0,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Diagnose an autoencoder on images; every process gets the same.

    Args:
        rae: on ``device``; its latent statistics play no part.
        dataset: items with ``image``, uint8 of the decoder's output size.
        extractor: of the Fréchet distances' features.
        num_samples: a seeded random subset of this size; all images where None.
        precision: of the networks; features are in float32.
        progress: called with (images done, images in all) of this process, over two passes.

    Raises:
        DataError: If there are fewer than two images.
        NonFiniteError: If the encoder or the decoder gives NaN or infinity.
    """
    device = torch.device(device)
    indices = _shuffled(choose_indices(len(dataset), num_samples, seed), seed)
    if len(indices) < 2:
        raise DataError("a diagnosis needs at least 2 images, better hundreds")
    replaced = torch.zeros((), dtype=torch.int64, device=device)

    def chunks(half: int) -> Iterator[Chunk]:
        def of_both(done: int, total: int) -> None:
            if progress is not None:
                progress(half * total + done, 2 * total)

        return read_chunks(
            dataset,
            indices,
            batch_size=batch_size,
            num_workers=num_workers,
            replaced=replaced,
            progress=of_both,
        )

    with torch.no_grad():
        tokens = _token_moments(rae, chunks(0), device, precision)
        changes = all_changes(rae)
        judge = _Judge(changes, extractor, rae.decoder.patch_size, device)
        for chunk in chunks(1):
            decoded = _decoded(rae, changes, chunk, channel_deviation(tokens), seed, precision)
            judge.update(chunk[1], decoded)
    outcomes, seams = judge.compute()
    return Diagnosis(
        outcomes=outcomes,
        seams=seams,
        spectrum=spectrum_of(tokens),
        time_shift=time_shift(rae.latent_shape),
        count=len(indices),
        settings={
            **(about or {}),
            "count_available": len(dataset),
            "seed": seed,
            "precision": precision,
            "features": {"extractor": extractor.name, **extractor.identity},
            **program(device),
        },
        pictures=judge.pictures,
    )


def _shuffled(indices: list[int], seed: int) -> list[int]:
    """A seeded order, so that neighbours, which are interpolated, are not of one class."""
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))
    return [indices[place] for place in order.tolist()]


def _token_moments(rae: RAE, chunks: Iterable[Chunk], device: torch.device, precision: Precision) -> Moments:
    """Moments of the channels over images and places."""
    found = MomentAccumulator(width=rae.latent_shape[0], device=device)
    for _, images in chunks:
        with inference_context(device, precision):
            tokens = rae.tokens(to_float(images)).float()
        found.update(tokens.movedim(1, -1).flatten(0, -2))
    try:
        return found.compute()
    except ValueError as error:
        raise NonFiniteError(f"the encoder's tokens: {error}") from None


def _decoded(
    rae: RAE, changes: Sequence[Change], chunk: Chunk, deviation: Tensor, seed: int, precision: Precision
) -> list[UInt8[Tensor, "b 3 H W"]]:
    """What the decoder makes of the images' tokens after each change."""
    positions, images = chunk
    with inference_context(images.device, precision):
        pixels = rae.encoder_input(to_float(images))
        batch = Batch(
            images=pixels,
            tokens=rae.encoder(pixels).float(),
            positions=positions.to(images.device),
            deviation=deviation[:, None, None].float().to(images.device),
            seed=seed,
        )
        made = [rae.decode_tokens(change.apply(batch)) for change in changes]
    if not all(image.isfinite().all() for image in made):
        raise NonFiniteError("a decoded image holds NaN or inf: the decoder is broken, or 16 bits overflowed")
    return [to_uint8(image) for image in made]


class _Judge:
    """The figures of originals and of each change, chunk by chunk."""

    def __init__(
        self, changes: Sequence[Change], extractor: FeatureExtractor, patch_size: int, device: torch.device
    ) -> None:
        self._changes, self._extractor = changes, extractor
        rows = range(len(changes) + 1)  # the originals, then the changes
        self._moments = [MomentAccumulator(width=extractor.width, device=device) for _ in rows]
        self._seams = [Seams(patch_size, device) for _ in rows]
        self._psnr = [mean_psnr(device) for _ in changes]
        self.pictures: tuple[Tensor, ...] = ()

    def update(
        self, originals: UInt8[Tensor, "b 3 H W"], decoded: Sequence[UInt8[Tensor, "b 3 H W"]]
    ) -> None:
        """Add a chunk of images."""
        for images, moments, seams in zip([originals, *decoded], self._moments, self._seams, strict=True):
            moments.update(self._extractor(images))
            seams.update(images)
        for images, psnr in zip(decoded, self._psnr, strict=True):
            psnr.update(originals, images)
        if not self.pictures:
            self.pictures = tuple(images[:SHOWN].cpu() for images in (originals, *decoded))

    def compute(self) -> tuple[tuple[Outcome, ...], float]:
        """The outcome of each change, and the originals' seams."""
        originals, *moments = (found.compute() for found in self._moments)
        own, *seams = (found.compute() for found in self._seams)
        psnrs = [found.compute().value for found in self._psnr]
        return tuple(
            Outcome(
                kind=change.kind,
                amount=change.amount,
                psnr=psnr if change.has_original else None,
                frechet=frechet_distance(decoded, originals),
                seams=seam,
            )
            for change, psnr, decoded, seam in zip(self._changes, psnrs, moments, seams, strict=True)
        ), own
