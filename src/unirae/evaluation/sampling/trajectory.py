"""A sample on its way from noise to data, for looking at."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unirae.core.keyed_random import Stream, normal, sample_keys
from unirae.evaluation.sampling.settings import SamplerSettings, guided_velocity
from unirae.evaluation.sampling.wanted import check_labels
from unirae.flow.prediction import data_from_velocity
from unirae.flow.solvers import Velocity
from unirae.models.denoisers.base import Denoiser


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Some samples at time t, and the ends that the network expects: x_t − t·v (flow/path.py)."""

    t: float
    xt: Float[Tensor, "b c h w"]
    expected: Float[Tensor, "b c h w"]


class _Recorder:
    """A velocity that records its inputs and outputs, the first time at each of some times."""

    def __init__(self, velocity: Velocity, times: set[float]) -> None:
        self._velocity, self._times = velocity, times
        self.moments: list[Moment] = []

    def __call__(self, x: Tensor, t: float) -> Tensor:
        velocity = self._velocity(x, t)
        if t in self._times:
            self._times.remove(t)
            self.moments.append(Moment(t=t, xt=x, expected=data_from_velocity(x, velocity, t)))
        return velocity


@torch.no_grad()
def sample_moments(
    dit: Denoiser,
    *,
    labels: Int64[Tensor, " b"],
    indices: Int64[Tensor, " b"],
    seed: int,
    settings: SamplerSettings,
    count: int,
) -> list[Moment]:
    """Sample ``count`` moments of the images numbered ``indices``, spread evenly over the time grid to the sample.

    The images are those of :func:`~unirae.evaluation.sampling.sampler.sample_numbered`, for solvers that walk the grid
    (dopri5 and sde do not).
    """
    check_labels(labels, dit)
    times = settings.times(dit)
    steps = len(times) - 1
    chosen = {times[round(k * steps / max(count - 1, 1))] for k in range(count - 1)}
    recorder = _Recorder(guided_velocity(dit, labels, settings, None), chosen)
    noise = normal(sample_keys(seed, 0, indices), dit.latent_shape, Stream.SAMPLE_NOISE)
    latents = settings.solve(dit, recorder, noise)
    return [*recorder.moments, Moment(t=times[-1], xt=latents, expected=latents)]
