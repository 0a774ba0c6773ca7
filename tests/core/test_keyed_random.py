import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unirae.core.keyed_random import Stream, normal, sample_keys, uniform

KEYS = sample_keys(0, 0, torch.arange(500))


@pytest.fixture(scope="module")
def normals() -> torch.Tensor:
    return normal(KEYS, (401,), Stream.LATENT_NOISE).double()


def test_uniform_is_uniform():
    draws = uniform(KEYS, (400,), Stream.AUGMENT_FAKE).double().flatten()
    assert draws.min() >= 0
    assert draws.max() < 1
    empirical = torch.arange(1, len(draws) + 1) / len(draws)
    assert (draws.sort().values - empirical).abs().max() < 1.63 / len(draws) ** 0.5  # Kolmogorov-Smirnov, 1 %


def test_normal_is_normal(normals):
    draws = normals.flatten()
    assert draws.isfinite().all()
    cumulative = torch.special.ndtr(draws.sort().values)
    empirical = torch.arange(1, len(draws) + 1) / len(draws)
    assert (cumulative - empirical).abs().max() < 1.63 / len(draws) ** 0.5
    assert draws.abs().max() > 4.0  # has tails


def test_numbers_of_a_sample_and_of_neighbours_are_uncorrelated(normals):
    within = (normals[:, :-1] * normals[:, 1:]).mean()
    between = (normals[:-1] * normals[1:]).mean()
    halves = (normals[:, :200] * normals[:, 201:]).mean()  # the two of a Box-Muller pair
    assert max(abs(within), abs(between), abs(halves)) < 4 / normals.numel() ** 0.5


@given(st.integers(0, 2**31), st.integers(0, 10**7), st.lists(st.integers(0, 10**7), min_size=1, max_size=9))
def test_a_sample_does_not_see_its_batch(seed, step, samples):
    together = sample_keys(seed, step, torch.tensor(samples))
    for draw in (uniform, normal):
        whole = draw(together, (3, 5), Stream.MASK)
        alone = [draw(sample_keys(seed, step, torch.tensor([s])), (3, 5), Stream.MASK) for s in samples]
        assert torch.equal(whole, torch.cat(alone))


def test_seed_step_and_sample_each_matter_and_do_not_mix():
    samples = torch.arange(20)
    keys = torch.stack([sample_keys(seed, step, samples) for seed in range(20) for step in range(20)])
    assert keys.unique().numel() == 20**3
    assert sample_keys(1, 2, torch.tensor([3])) != sample_keys(2, 1, torch.tensor([3]))


def test_streams_differ():
    draws = torch.stack([uniform(KEYS, (50,), stream).flatten() for stream in Stream])
    correlation = torch.corrcoef(draws.double()) - torch.eye(len(Stream))
    assert correlation.abs().max() < 4.5 / draws.shape[1] ** 0.5


def test_a_longer_draw_starts_with_the_shorter_one():
    assert torch.equal(uniform(KEYS, (8,), Stream.MASK)[:, :3], uniform(KEYS, (3,), Stream.MASK))


@pytest.mark.gpu
def test_a_gpu_draws_the_same_numbers():
    on_gpu = KEYS.cuda()
    assert torch.equal(uniform(on_gpu, (99,), Stream.MASK).cpu(), uniform(KEYS, (99,), Stream.MASK))
    gpu, cpu = normal(on_gpu, (99,), Stream.MASK).cpu(), normal(KEYS, (99,), Stream.MASK)
    torch.testing.assert_close(gpu, cpu, rtol=1e-5, atol=1e-5)


def test_integers_and_uniforms_do_not_depend_on_the_instruction_set():
    """What another device computes: SplitMix64 on Python's integers, which know neither vectors nor overflow."""
    mask = 2**64 - 1

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    base = mix((5 + golden) & mask)
    base = mix(base ^ ((7 + golden) & mask))
    key = mix(base ^ ((11 + golden) & mask))
    keys = sample_keys(5, 7, torch.tensor([11]))
    assert keys.item() % 2**64 == key
    start = mix(key ^ mix((int(Stream.MASK) + golden) & mask))
    wanted = [(mix((start + count * golden) & mask) >> 40) / 2**24 for count in range(1, 6)]
    assert uniform(keys, (5,), Stream.MASK).flatten().tolist() == wanted
