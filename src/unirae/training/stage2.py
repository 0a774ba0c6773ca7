"""Stage 2: train a diffusion transformer on the latents of a frozen autoencoder (RAE paper, sections 4 and 5).

A step is flow matching (Lipman et al. 2023): x_t = (1 − t)·x + t·ε with t shifted towards noise, and the mean of
(v_θ(x_t, t, y) − (ε − x))². Labels, or texts, are dropped now and then, so that the network also learns without them. A
network may predict the data instead, and one with an early head has that head's loss added (RAEv2, arXiv 2605.18324).

The autoencoder takes no part in training: it is in eval mode, has no gradients and no optimizer, and a checkpoint
holds its path and fingerprint, not its weights.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from unirae.core.images import to_float
from unirae.core.keyed_random import Stream, normal, uniform
from unirae.core.sharding import gathered_parameters, shard_parameters
from unirae.data.text_cache import MULTIPLE
from unirae.flow.path import interpolate
from unirae.flow.prediction import prediction_loss
from unirae.flow.times import TimeDistribution, TimeGrid, shift_times
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.build import describe_denoiser
from unirae.models.denoisers.condition import Condition
from unirae.models.rae import RAE
from unirae.nn.parameter_groups import ParameterGroups
from unirae.training.ema import Ema
from unirae.training.manual import MeanTerms, StepSettings
from unirae.training.single import SingleNetwork


@dataclass(frozen=True)
class LatentBatch:
    """A micro-batch of stage 2."""

    latents: Float[Tensor, "b c h w"]
    """Normalised."""
    condition: Condition
    keys: Int64[Tensor, " b"]
    """One key per sample for this step's random draws."""


class Stage2(SingleNetwork):
    """Training of ``denoiser``.

    Args:
        rae: encodes images and decodes samples; frozen here.
        rae_reference: how a checkpoint names the autoencoder (its path, fingerprint, or seed).
        time_distribution: of times before the shift by ``denoiser.time_shift``.
        t_min: the clamp of the loss (:func:`~unirae.flow.prediction.prediction_loss`); None is the prediction's own.
        base_loss_weight: of the early head's loss, where the denoiser has one.
        time_grid: that samples are made with by default.
        label_dropout: probability that a condition becomes the null condition.
        encode_texts: captions to tokens, of a denoiser that is conditioned on text; batches may have tokens already.
        text_encoder: the network behind ``encode_texts``, where there is one, so that it is on this module's device.
        ema_extra_decays: of further averages, kept beside the one that is evaluated and shown.
    """

    kind = "stage2"

    def __init__(
        self,
        *,
        rae: RAE,
        rae_reference: dict[str, Any],
        denoiser: Denoiser,
        class_names: Sequence[str],
        time_distribution: TimeDistribution,
        label_dropout: float,
        ema_extra_decays: Sequence[float],
        settings: StepSettings,
        t_min: float | None = None,
        base_loss_weight: float = 1.0,
        time_grid: TimeGrid = "reference",
        encode_texts: Callable[[Sequence[str]], Condition] | None = None,
        text_encoder: nn.Module | None = None,
    ) -> None:
        super().__init__(settings)
        self.text_encoder, self.encode_texts = text_encoder, encode_texts
        self.rae = rae.eval().requires_grad_(False)
        self.denoiser = denoiser
        main, warmup = settings.ema_decay, settings.ema_warmup
        self.emas = nn.ModuleDict(
            {
                ema_part(decay, first=decay == main): Ema(denoiser, decay=decay, warmup=warmup)
                for decay in dict.fromkeys([main, *ema_extra_decays])
            }
        )
        self.time_distribution, self.label_dropout = time_distribution, label_dropout
        self.t_min = denoiser.prediction.t_min if t_min is None else t_min
        self.base_loss_weight = base_loss_weight
        self.time_grid: TimeGrid = time_grid
        self.rae_reference, self.class_names = rae_reference, tuple(class_names)

    # ------------------------------------------------------------------ the step

    def split(self, batch: dict[str, Tensor]) -> Iterator[LatentBatch]:
        """Split a batch: latents from a cache as they are, images through the encoder."""
        for part, keys in self.parts(batch):
            latents = part["latent"] if "latent" in part else self.rae.latents(to_float(part["image"]))
            yield LatentBatch(latents.to(self.dtype), self.condition_of(part), keys)

    def condition_of(self, part: dict[str, Any]) -> Condition:
        """The labels of a batch, or its texts' tokens: from a cache as they are, captions through the text encoder."""
        if not self.denoiser.reads_text:
            return Condition(labels=part["label"])
        if "text" in part:
            return Condition(tokens=part["text"].to(self.dtype), mask=part["text_mask"])
        assert self.encode_texts is not None
        tokens, mask = self.encode_texts(part["caption"]).to(self.device).text
        found = Condition(tokens=tokens.to(self.dtype), mask=mask)
        return found.resized(-(-tokens.shape[1] // MULTIPLE) * MULTIPLE)

    def example(self, sample: dict[str, Any]) -> dict[str, Tensor]:
        """See :meth:`.manual.ManualModule.example`; of texts the longest that there may be."""
        width, identity = self.denoiser.config.text_width, self.denoiser.text_identity
        if width is None or identity is None:
            return super().example(sample)
        words = {"caption", "text", "text_mask"}
        found = super().example({name: value for name, value in sample.items() if name not in words})
        length = identity["max_length"]
        return {
            **found,
            "text": torch.zeros(length, width),
            "text_mask": torch.ones(length, dtype=torch.bool),
        }

    def loss(self, part: LatentBatch, terms: MeanTerms) -> Float[Tensor, ""]:
        """Flow matching at random times (RAE paper, equation 2), of both heads where there are two."""
        times = self.times(part.keys)
        noise = normal(part.keys, tuple(part.latents.shape[1:]), Stream.PATH_NOISE)
        # channels last is how tokens lie in memory: the denoiser and the loss would transpose at every turn
        latents, noise = (x.contiguous(memory_format=torch.channels_last) for x in (part.latents, noise))
        sample = interpolate(latents, noise, times)
        condition = self.drop_conditions(part.condition, part.keys)

        def loss_of(output: Tensor) -> Tensor:
            return prediction_loss(self.denoiser.prediction, output, sample, times, t_min=self.t_min).mean()

        if self.denoiser.base_output is None:
            loss = loss_of(self.denoiser.predict(sample.xt, times, condition))
            terms.add(loss=loss)
            return loss
        full, base = map(loss_of, self.denoiser.predict_with_base(sample.xt, times, condition))
        loss = full + self.base_loss_weight * base
        terms.add(loss=loss, loss_full=full, loss_base=base)
        return loss

    def times(self, keys: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        """One time per sample, shifted towards noise as the latents' dimension asks (RAE paper, section 4.2)."""
        drawn = self.time_distribution.sample(uniform(keys, (), Stream.TIME)).to(self.dtype)
        return shift_times(drawn, self.denoiser.time_shift)

    def drop_conditions(self, condition: Condition, keys: Int64[Tensor, " b"]) -> Condition:
        """The null condition in place of some (Ho and Salimans 2022)."""
        dropped = uniform(keys, (), Stream.LABEL_DROPOUT) < self.label_dropout
        return self.denoiser.null_condition(len(condition), condition.device).where(dropped, condition)

    # ------------------------------------------------------------------ Lightning's hooks and the checkpoint

    @property
    def trained(self) -> nn.Module:
        """The denoiser: only it is trained."""
        return self.denoiser

    def parameter_groups(self) -> ParameterGroups:
        """Trained parameters of the denoiser, in groups."""
        return self.denoiser.parameter_groups()

    @property
    def averages(self) -> Iterable[Ema]:
        """The averages of the denoiser, one for each decay."""
        return self.emas.values()  # pyright: ignore[reportReturnType]

    @property
    def average(self) -> Denoiser:
        """The averaged denoiser that is evaluated and shown."""
        average = self.emas.get_submodule("ema").average
        assert isinstance(average, Denoiser)
        return average

    @contextmanager
    def whole_average(self) -> Iterator[Denoiser]:
        """The average, ready to run; where it is sharded, every process must ask."""
        with gathered_parameters(self.average):
            yield self.average

    def shard(self, mesh: DeviceMesh) -> None:
        """Keep of the denoiser and its averages this process's part; FSDP gathers a block when it is its turn."""
        for block in (*self.denoiser.blocks_in_order(), self.denoiser):
            fully_shard(block, mesh=mesh)
        for called_by_a_step in ("predict", "predict_with_base"):
            register_fsdp_forward_method(self.denoiser, called_by_a_step)
        for ema in self.averages:
            shard_parameters(ema.average, mesh)  # nothing runs it but evaluation, which wants it whole

    def train(self, mode: bool = True) -> "Stage2":
        """The autoencoder stays in eval mode."""
        super().train(mode)
        self.rae.eval()
        return self

    def state_parts(self) -> dict[str, nn.Module]:
        """The denoiser with its latent statistics, and its averages, for a checkpoint; nothing of the autoencoder."""
        averages = {name: ema.average for name, ema in self.emas.items()}
        return {"dit": self.denoiser, **averages}  # pyright: ignore[reportReturnType]

    def describe(self) -> dict[str, Any]:
        """Description of the denoiser, to build it again, of its latents, and of the autoencoder for them."""
        return {
            "dit": describe_denoiser(self.denoiser),
            "latent_stats_info": self.denoiser.latent_stats.info,
            "rae": self.rae_reference,
            "class_names": list(self.class_names),
            "time_distribution": self.time_distribution.kind,
            "ema": {name: ema.decay for name, ema in self.emas.items()},
            # as it was before there was a choice, where nothing else is chosen
            **({} if self.time_grid == "reference" else {"sampling": {"time_grid": self.time_grid}}),
        }

    def networks(self) -> dict[str, nn.Module | None]:
        """The networks of the summary."""
        averages = {name.replace("_", " 0.").upper(): ema for name, ema in self.emas.items()}
        return {"RAE": self.rae, "text encoder": self.text_encoder, "DiT": self.denoiser, **averages}

    @property
    def frozen(self) -> list[nn.Module]:
        """The frozen network that runs in 16 bits where a step does: the encoder, and not the one of texts."""
        return [self.rae.encoder]

    def plan(self) -> list[str]:
        """Plan of the run: what will happen when, in steps, and how times are drawn."""
        c, h, w = self.denoiser.latent_shape
        return [
            f"latents {c}×{h}×{w}; times {self.time_distribution.describe()}, shifted by "
            f"{self.denoiser.time_shift:.2f}; predicts {self.denoiser.prediction.value}",
            self.schedule.describe(),
        ]

    def cautions(self, max_steps: int) -> list[str]:
        """Warning of a network narrower than its tokens."""
        warning = self.denoiser.width_warning()
        return [warning] if warning else []


def ema_part(decay: float, *, first: bool = False) -> str:
    """The name of an average in a checkpoint: ``ema`` for the main one, else ``ema_`` and the decay's decimals."""
    return "ema" if first else f"ema_{f'{decay:.10f}'.rstrip('0').partition('.')[2] or '0'}"
