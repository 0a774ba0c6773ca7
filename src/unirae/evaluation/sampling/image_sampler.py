"""Sampler of images by number, which sampling, scoring and the pictures of a run share.

The network always sees exactly ``batch_size`` images: a short batch is filled up with the images that would follow,
which are dropped. So which kernels run, and the steps of an adaptive solver, depend neither on how many images were
asked for nor on the number of processes; and a folder of samples can grow without its files changing.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from unirae.core.distributed import gather
from unirae.core.errors import ConfigError
from unirae.core.images import to_uint8
from unirae.evaluation.passes.encoding import inference_context
from unirae.evaluation.passes.reading import Precision
from unirae.evaluation.sampling.requests import RequestRule
from unirae.evaluation.sampling.sampler import decoder_for, sample_batch
from unirae.evaluation.sampling.settings import SamplerSettings, guided_velocity
from unirae.models.denoisers.base import Denoiser
from unirae.models.rae import RAE
from unirae.nn.kernels.block_compiler import BlockCompiler
from unirae.nn.kernels.narrow_weights import NarrowWeights


@dataclass(frozen=True, kw_only=True)
class ImageSampler:
    """A network, its autoencoder and a sampler as a function from numbers to images.

    Attributes:
        dit, rae, guide: in eval mode, on one device; the RAE needs no encoder.
        rule: what the image of each number is to show.
        batch_size: images that the network sees at once. Another one changes the last digits.
        precision: of network and decoder; the state of the solver stays float32.
        compiler: of the blocks of ``dit``, ``guide`` and decoder while sampling; None runs them as they are.
        evaluations: filled while sampling with how often the network was asked in a batch.
    """

    dit: Denoiser
    rae: RAE
    settings: SamplerSettings
    rule: RequestRule
    seed: int = 0
    batch_size: int = 32
    precision: Precision = "fp32"
    guide: Denoiser | None = None
    compiler: BlockCompiler | None = None
    evaluations: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size} must be at least 1")
        nobody = torch.zeros(0, dtype=torch.int64)
        # refuses what cannot be, before long work
        guided_velocity(self.dit, self.rule.request(nobody), self.settings, self.guide)

    def __call__(self, indices: Int64[Tensor, " b"]) -> UInt8[Tensor, "b 3 H W"]:
        """The images of consecutive numbers, on the device of the numbers; a function of them and the settings.

        Raises:
            ConfigError: If this network cannot follow the labels or settings.
            NonFiniteError: If the network or the decoder gives NaN or infinity.
        """
        return torch.cat([self._batch(part) for part in indices.split(self.batch_size)])

    @cached_property
    def decoder(self) -> RAE:
        """The RAE with the network's statistics; comparing them takes a hash, so once."""
        return decoder_for(self.dit, self.rae)

    @cached_property
    def narrow(self) -> NarrowWeights:
        """16-bit copies of the networks' weights."""
        return NarrowWeights(self.dit, self.guide, self.rae.decoder)

    def for_many(self) -> "ImageSampler":
        """The same, with its networks in memory in the precision of sampling alone."""
        with inference_context(next(self.dit.parameters()).device, self.precision):
            self.narrow.map_originals()
        return self

    def _batch(self, indices: Int64[Tensor, " b"]) -> UInt8[Tensor, "b 3 H W"]:
        with nullcontext() if self.compiler is None else self.compiler.in_use():
            made = sample_batch(
                self.dit,
                self.decoder,
                indices=indices,
                rule=self.rule,
                batch_size=self.batch_size,
                seed=self.seed,
                settings=self.settings,
                narrow=self.narrow,
                guide=self.guide,
                precision=self.precision,
            )
        self.evaluations.add(made.evaluations)
        return to_uint8(made.images)

    def evaluations_of_all(self, before: Sequence[int] = ()) -> list[int]:
        """Number of evaluations of the networks in a batch, over all processes: one number, or [fewest, most]."""
        counts = set(before).union(*gather(self.evaluations))
        return sorted({min(counts), max(counts)}) if counts else []

    def describe(self) -> dict[str, Any]:
        """Everything that decides the images beside the weights, plain values."""
        return {
            **self.settings.describe(),
            "times": self.settings.times(self.dit),
            "trained_time_shift": self.dit.time_shift,
            "guidance": self._guidance(),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "latent_shape": list(self.dit.latent_shape),
            "size_px": list(self.rae.output_size),
            **self.rule.describe(),
        }

    def _guidance(self) -> str:
        if self.guide is not None:
            return "autoguidance"
        own = bool(self.rule.describe().get("prompt_cfg_scales"))
        kinds = {"internal": self.settings.uses_ig, "classifier-free": own or self.settings.cfg_scale != 1.0}
        return ", then ".join(kind for kind, acts in kinds.items() if acts) or "none"
