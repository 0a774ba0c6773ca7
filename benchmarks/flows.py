"""What the solvers are measured on: exact velocities of Gaussian mixtures, and networks."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unirae.core.keyed_random import Stream, normal, sample_keys
from unirae.core.strict import load_strictly
from unirae.evaluation.sampling.settings import SamplerSettings, guided_velocity
from unirae.flow.solvers import Velocity
from unirae.flow.times import time_grid
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.dit_dh import DiTDH
from unirae.models.interop.official.dit import dit_from_official

GOLDEN = Path(__file__).parents[1] / "tests/golden/ddt.safetensors"
SHIFT = 6.93
"""Of latents of 768×16×16, the paper's."""


@dataclass(frozen=True)
class Problem:
    """A flow to be solved from ``noise``.

    Attributes:
        velocity: what settings ask for; a new one for each solution, since it may remember.
        times: the grid of settings.
        has_trunk: whether ``trunk_every`` means something.
    """

    title: str
    noise: Tensor
    velocity: Callable[[SamplerSettings], Velocity]
    times: Callable[[SamplerSettings], list[float]]
    has_trunk: bool = False


class Mixture:
    """E[ε − x | x_t] for data of equally likely Gaussians with means (k, d) and a common diagonal variance (d)."""

    def __init__(self, means: Tensor, variance: Tensor) -> None:
        self.means, self.variance = means, variance

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """The exact velocity."""
        variance = (1 - t) ** 2 * self.variance + t**2
        off = x[:, None] - (1 - t) * self.means
        chance = (-0.5 * (off**2 / variance).sum(2)).softmax(1)
        noise = t / variance * off
        data = self.means + (1 - t) * self.variance / variance * off
        return torch.einsum("bk,bkd->bd", chance, noise - data)


def mixtures() -> dict[str, Problem]:
    """Of modes that are broad, almost points, and of images' spectrum; variance 1 in all, as latents have."""
    flat = torch.ones(64, dtype=torch.float64)
    falling = 1 / torch.arange(1, 513, dtype=torch.float64) + 0.001
    return {
        "mixture": _mixture("10 broad modes (σ = 0.5) in 64 dimensions", flat, modes=10, within=0.25),
        "points": _mixture("10 narrow modes (σ = 0.05) in 64 dimensions", flat, modes=10, within=0.0025),
        "spectrum": _mixture(
            "10 modes in 512 dimensions, variances as 1/k", falling / falling.mean(), modes=10, within=0.5
        ),
    }


def _mixture(title: str, spectrum: Tensor, *, modes: int, within: float) -> Problem:
    """``within``: the share of the variance that lies inside a mode."""
    generator = torch.Generator().manual_seed(0)
    means, noise = (
        torch.randn(count, len(spectrum), generator=generator, dtype=torch.float64) for count in (modes, 16)
    )
    flow = Mixture(means * ((1 - within) * spectrum).sqrt(), within * spectrum)
    return Problem(title, noise, lambda _: flow, lambda how: time_grid(how.num_steps, SHIFT, how.time_grid))


def small_dit() -> DiTDH:
    """The reference's small DiT^DH of the golden tests; random weights, 24×4×4."""
    from safetensors import safe_open

    with safe_open(GOLDEN, "pt") as file:
        arguments = json.loads(file.metadata()["config"])
        state = {
            key.removeprefix("state."): file.get_tensor(key)
            for key in file.keys()  # noqa: SIM118
            if key.startswith("state.")
        }
    unknown = ("wo_shift", "class_dropout_prob")
    model = DiTDH(**{key: value for key, value in arguments.items() if key not in unknown})
    load_strictly(model, dit_from_official(state, trunk_depth=arguments["depth"][0]), what="DiT")
    return model.eval().requires_grad_(False)


def network(
    title: str, dit: Denoiser, *, count: int, time_shift: float | None = None, **sampler: Any
) -> Problem:
    """The velocities of a network for labels in turn; ``sampler``: settings that all solutions share."""
    numbers = torch.arange(count)
    labels = numbers % max(dit.num_classes, 1)
    noise = normal(sample_keys(0, 0, numbers), dit.latent_shape, Stream.SAMPLE_NOISE)

    def settings(how: SamplerSettings) -> SamplerSettings:
        return SamplerSettings(**{**vars(how), "time_shift": time_shift, **sampler})

    return Problem(
        title,
        noise,
        lambda how: guided_velocity(dit, labels, settings(how), None),
        lambda how: settings(how).times(dit),
        has_trunk=isinstance(dit, DiTDH),
    )


def default_problems() -> dict[str, Problem]:
    """What is measured without a checkpoint."""
    small = network(
        "the reference's small DiT^DH, random weights", small_dit(), count=8, time_shift=math.sqrt(6)
    )
    return {**mixtures(), "network": small}
