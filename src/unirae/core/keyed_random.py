"""Random draws addressed by keys instead of drawn from a stream.

A stream makes a draw depend on everything drawn before it: on the batch size, the rank, the micro-batch,
the moment a run was resumed. Here every number is a pure function of (seed, step, sample, position), so a
step gives the same noise however its batch is split, on every device, and after every restart.

The generator is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) on tensors of 64-bit integers; normals come
from it by Box and Muller (1958).
"""

import math
from enum import IntEnum

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MIX_2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB


class Stream(IntEnum):
    """Purpose of a random draw; two purposes never share numbers."""

    LATENT_NOISE_SCALE = 1
    LATENT_NOISE = 2
    AUGMENT_GENERATOR_FAKE = 3
    AUGMENT_FAKE = 4
    AUGMENT_REAL = 5
    MASK = 6
    TIME = 7
    PATH_NOISE = 8
    LABEL_DROPOUT = 9
    SAMPLE_NOISE = 10
    SAMPLE_LABEL = 11
    SAMPLE_STEP_NOISE = 12
    BLOCK_DROPOUT = 13
    BLOCK_KEPT = 14


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift of signed 64-bit integers."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's output function, element by element."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def sample_keys(
    seed: int | Int64[Tensor, " b"], step: int, samples: Int64[Tensor, " b"]
) -> Int64[Tensor, " b"]:
    """One key per sample of a step; ``samples`` are the samples' numbers in the data set.

    Args:
        seed: of all, or one for each.
    """
    seeds = seed if isinstance(seed, Tensor) else torch.full_like(samples, seed)
    base = _mix(seeds + _GOLDEN)
    base = _mix(base ^ (torch.full_like(samples, step) + _GOLDEN))
    return _mix(base ^ (samples + _GOLDEN))


def _bits(keys: Int64[Tensor, " b"], count: int, stream: Stream) -> Int64[Tensor, "b count"]:
    start = _mix(keys ^ _mix(torch.full_like(keys, int(stream)) + _GOLDEN))
    counter = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64)
    return _mix(start[:, None] + counter * _GOLDEN)


def uniform(keys: Int64[Tensor, " b"], shape: tuple[int, ...], stream: Stream) -> Float[Tensor, "b ..."]:
    """U[0, 1) in float32 of shape (b, *shape)."""
    bits = _bits(keys, math.prod(shape), stream)
    return (_shift_right(bits, 40).float() * 2.0**-24).view(len(keys), *shape)


def normal(keys: Int64[Tensor, " b"], shape: tuple[int, ...], stream: Stream) -> Float[Tensor, "b ..."]:
    """N(0, 1) in float32 of shape (b, *shape): two normals from each 64-bit word."""
    count = math.prod(shape)
    bits = _bits(keys, (count + 1) // 2, stream)
    radius_uniform = (_shift_right(bits, 40).float() + 1.0) * 2.0**-24  # (0, 1]: its logarithm is finite
    angle_uniform = (bits & 0xFFFFFF).float() * 2.0**-24
    radius = (-2.0 * radius_uniform.log()).sqrt()
    angle = angle_uniform * (2.0 * math.pi)
    pair = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return pair[:, :count].view(len(keys), *shape)
