"""Sampling: image i is a function of (seed, i, its label); settings mean what they say."""

from itertools import pairwise

import pytest
import torch

from tiny_latents import SHAPE, some_stats, tiny_rae
from unirae.core.errors import ConfigError, NonFiniteError, WeightsError
from unirae.core.images import to_uint8
from unirae.core.keyed_random import Stream, normal, sample_keys
from unirae.evaluation.sampling import sampler as sampler_module
from unirae.evaluation.sampling.image_sampler import ImageSampler
from unirae.evaluation.sampling.requests import LabelRule, choose_labels
from unirae.evaluation.sampling.sampler import (
    decoder_for,
    sample,
    sample_latents,
    sample_numbered,
)
from unirae.evaluation.sampling.settings import SamplerSettings
from unirae.models.denoisers.dit_dh import DiTDH


def tiny_dit(classes=3, seed=0, **options):
    dit = DiTDH(
        input_size=4, in_channels=16, num_classes=classes, hidden_size=[16, 32], depth=[1, 1], num_heads=[2, 2],
        **{"latent_stats": some_stats(), "time_shift": 2.0, **options},
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    for parameter in dit.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    return dit.eval().requires_grad_(False)


def latents(dit, indices, labels=None, *, seed=0, guide=None, **settings):
    indices = torch.tensor(indices)
    labels = indices % max(dit.num_classes, 1) if labels is None else torch.tensor(labels)
    settings = SamplerSettings(**{"num_steps": 5, **settings})
    return sample_numbered(dit, request=labels, indices=indices, seed=seed, settings=settings, guide=guide)


def sampler(dit=None, rae=None, **options):
    dit = tiny_dit() if dit is None else dit
    defaults = {"settings": SamplerSettings(num_steps=4), "rule": LabelRule(num_classes=dit.num_classes)}
    return ImageSampler(dit=dit, rae=tiny_rae() if rae is None else rae, **{**defaults, **options})


@pytest.mark.parametrize("solver", ["euler", "heun", "multistep", "multistep3", "sde"])
def test_a_sample_depends_on_its_own_number_and_label_alone(solver, monkeypatch):
    # in 64 bits: products of one row and of two round differently, and how much solvers enlarge that is the processor's
    monkeypatch.setattr(sampler_module, "normal", lambda *given: normal(*given).double())
    dit = tiny_dit().double()
    both = latents(dit, [4, 7], [1, 2], solver=solver).latents
    alone = latents(dit, [7], [2], solver=solver).latents
    assert both.dtype == torch.float64
    torch.testing.assert_close(both[1:], alone, rtol=1e-9, atol=1e-10)
    for other in (
        latents(dit, [8], [2], solver=solver),
        latents(dit, [7], [1], solver=solver),
        latents(dit, [7], [2], solver=solver, seed=1),
    ):
        assert not torch.allclose(other.latents, alone, atol=1e-2)


def test_the_sde_needs_fresh_noise_at_every_step():
    dit = tiny_dit()
    assert not torch.allclose(latents(dit, [0], solver="sde").latents, latents(dit, [0]).latents, atol=1e-2)


def test_a_sampler_for_many_keeps_16_bits_in_memory_and_makes_the_same_images(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path))
    usual, many = (sampler(guide=tiny_dit(seed=1), precision="bf16", batch_size=2) for _ in range(2))
    numbers = torch.arange(3)
    assert torch.equal(many.for_many()(numbers), usual(numbers))
    assert many.narrow.mapped
    assert not usual.narrow.mapped
    assert sampler().for_many().narrow.mapped == []  # 32 bits are what it computes with


@pytest.mark.parametrize(("solver", "evaluations"), [("euler", 4), ("heun", 8), ("multistep", 4), ("sde", 4)])
def test_evaluations_are_counted(solver, evaluations):
    assert latents(tiny_dit(), [0], solver=solver).evaluations == evaluations
    assert latents(tiny_dit(), [0], solver=solver, cfg_scale=3.0).evaluations == evaluations


def test_the_grid_is_shifted_as_in_training_unless_told():
    dit = tiny_dit()
    trained = SamplerSettings(num_steps=3).times(dit)
    assert trained == SamplerSettings(num_steps=3, time_shift=2.0).times(dit)
    assert SamplerSettings(num_steps=3, time_shift=1.0).times(dit) == pytest.approx([1.0, 0.5005, 0.001])
    assert SamplerSettings(num_steps=3, time_grid="to_zero").times(dit)[-1] == 0.0


def test_guidance_and_its_interval():
    dit, guide = tiny_dit(), tiny_dit(seed=9)
    plain = latents(dit, [0, 1]).latents
    assert torch.equal(latents(dit, [0, 1], cfg_scale=1.0, guide=guide).latents, plain)
    guided = latents(dit, [0, 1], cfg_scale=2.0).latents
    autoguided = latents(dit, [0, 1], cfg_scale=2.0, guide=guide).latents
    assert not torch.allclose(guided, plain, atol=1e-2)
    assert not torch.allclose(guided, autoguided, atol=1e-2)
    nowhere = latents(dit, [0, 1], cfg_scale=2.0, guidance_interval=(0.0, 0.0)).latents
    assert torch.equal(nowhere, plain)
    null = latents(dit, [0, 1], [3, 3]).latents
    torch.testing.assert_close(latents(dit, [0, 1], cfg_scale=0.0).latents, null, rtol=1e-3, atol=1e-3)


def test_labels():
    indices = torch.arange(3000)
    equal = choose_labels(indices, num_classes=7, sampling="equal", seed=0)
    assert equal.tolist() == [i % 7 for i in range(3000)]
    drawn = choose_labels(indices, num_classes=7, sampling="random", seed=0)
    counts = torch.bincount(drawn, minlength=7)
    assert len(counts) == 7
    assert counts.min() > 3000 / 7 * 0.8
    assert len(set(counts.tolist())) > 1
    assert torch.equal(choose_labels(indices[100:], num_classes=7, sampling="random", seed=0), drawn[100:])
    assert not torch.equal(choose_labels(indices, num_classes=7, sampling="random", seed=1), drawn)
    assert choose_labels(indices[:3], num_classes=0, sampling="random", seed=0).tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match="choose equal or random"):
        choose_labels(indices, num_classes=7, sampling="fair", seed=0)  # type: ignore[arg-type]
    assert LabelRule(num_classes=7, given=(4, 2))(indices[:3]).tolist() == [4, 2, 4]


def test_without_labels():
    dit = tiny_dit(classes=0)
    assert latents(dit, [0, 1]).latents.shape == (2, *SHAPE)
    with pytest.raises(ConfigError, match="needs a model with labels"):
        latents(dit, [0], cfg_scale=2.0)
    assert latents(dit, [0], cfg_scale=2.0, guide=tiny_dit(classes=0, seed=9)).evaluations == 4


def test_what_does_not_fit_is_refused():
    dit = tiny_dit()
    with pytest.raises(ConfigError, match="classes 0 to 2, and 3 for no label"):
        latents(dit, [0], [4])
    with pytest.raises(ConfigError, match="a guide must be trained on the same latents and labels"):
        latents(dit, [0], cfg_scale=2.0, guide=tiny_dit(classes=4))
    with pytest.raises(WeightsError, match="the DiT makes latents"):
        decoder_for(dit, tiny_rae(input_size=64))
    with pytest.raises(WeightsError, match="other latent statistics"):
        decoder_for(dit, tiny_rae(stats=some_stats(seed=1)))
    dit.output.linear.weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="NaN"):
        latents(dit, [0])


def test_the_decoder_undoes_the_statistics_of_the_dit():
    rae = tiny_rae()
    decoder = decoder_for(tiny_dit(), rae)
    latent = torch.randn(1, *SHAPE)
    torch.testing.assert_close(decoder.decode(latent), rae.decode_tokens(some_stats().denormalise(latent)))
    assert decoder_for(tiny_dit(), decoder) is decoder


def test_the_librarys_function_makes_the_same_images_as_the_sampler():
    dit, rae, done = tiny_dit(), tiny_rae(), []
    images = sample(
        dit, rae, labels=[0, 1, 2, 0, 1], num_steps=4, batch_size=2, progress=lambda *now: done.append(now)
    )
    assert images.shape == (5, 3, 32, 32)
    assert 0 <= images.min() < images.max() <= 1
    assert done == [(2, 5), (4, 5), (5, 5)]
    assert torch.equal(to_uint8(images), sampler(dit, rae, batch_size=2)(torch.arange(5)))
    levels = sampler(dit, rae, batch_size=5)(torch.arange(5)).float()
    assert (levels - images * 255).abs().max() < 1
    halves = sample(dit, rae, labels=[0, 1], num_steps=4, precision="bf16")
    assert halves.dtype == torch.float32
    assert 0 < (halves - images[:2]).abs().max() < 0.5


@pytest.mark.parametrize(
    "labels", [[0.5, 1.0], torch.tensor([1.0]), [True, False], ["a"], [[0, 1], [2]], [[0, 1]], [], 2, [2**70]]
)
def test_the_librarys_function_refuses_labels_that_are_not_whole_numbers(labels):
    with pytest.raises(ConfigError, match="must be a list of whole numbers"):
        sample(tiny_dit(), tiny_rae(), labels=labels, num_steps=2)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_the_librarys_function_refuses_empty_batches(batch_size):
    with pytest.raises(ConfigError, match=r"batch_size=.* must be at least 1"):
        sample(tiny_dit(), tiny_rae(), labels=[0, 1], batch_size=batch_size)


def test_the_librarys_function_checks_all_labels_before_the_first_batch():
    with pytest.raises(ConfigError, match="classes 0 to 2, and 3 for no label"):
        sample(tiny_dit(), tiny_rae(), labels=[0, 9], batch_size=1, progress=lambda *now: pytest.fail("late"))


def test_the_network_always_sees_whole_batches(monkeypatch):
    dit = tiny_dit()
    seen, forward = set(), DiTDH.forward
    monkeypatch.setattr(DiTDH, "forward", lambda self, x, t, y: seen.add(len(x)) or forward(self, x, t, y))
    make = sampler(dit, batch_size=4)
    images = make(torch.arange(6))
    assert seen == {4}
    sample(dit, tiny_rae(), labels=[0, 1, 2, 0, 1, 2], num_steps=2, batch_size=4)
    assert seen == {4}
    sample(dit, tiny_rae(), labels=[0, 1, 2], num_steps=2, batch_size=4)
    assert seen == {3, 4}
    assert torch.equal(images[4:], make(torch.arange(8))[4:6])
    assert make.evaluations_of_all() == [3]
    assert make.evaluations_of_all([7]) == [3, 7]


def test_a_decoder_that_overflows_is_named():
    rae = tiny_rae()
    next(rae.decoder.parameters()).data.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match="decoded image"):
        sampler(rae=rae)(torch.arange(2))
    with pytest.raises(NonFiniteError, match="decoded image"):
        sample(tiny_dit(), rae, labels=[0, 1], num_steps=2)


def test_the_statistics_are_compared_once_for_all_batches(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "unirae.evaluation.sampling.image_sampler.decoder_for",
        lambda *both: calls.append(both) or decoder_for(*both),
    )
    make = sampler(batch_size=2)
    make(torch.arange(4))
    make(torch.arange(2))
    assert len(calls) == 1


def drawn(count, seed=0):
    return normal(sample_keys(seed, 0, torch.arange(count)), (16, 4, 4), Stream.SAMPLE_NOISE)


@pytest.mark.parametrize("solver", ["euler", "sde"])
@pytest.mark.parametrize("batch_size", [2, 32])
def test_given_noise_is_sampled_as_noise_that_is_drawn(solver, batch_size):
    dit, seen = tiny_dit(), []
    settings = {"num_steps": 5, "cfg_scale": 2.0, "solver": solver}
    found = sample_latents(
        dit,
        noise=drawn(3, seed=4),
        labels=[0, 2, 1],
        seed=4,
        batch_size=batch_size,
        progress=lambda done, of: seen.append((done, of)),
        **settings,
    )
    wanted = latents(dit, [0, 1, 2], [0, 2, 1], seed=4, **settings).latents
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert seen == ([(2, 3), (3, 3)] if batch_size == 2 else [(3, 3)])


def test_noised_latents_are_walked_from_their_time_on():
    dit, noise = tiny_dit(), drawn(2)
    times = SamplerSettings(num_steps=9, time_grid="linear").times(dit)
    how = {"labels": [0, 1], "num_steps": 9, "time_grid": "linear"}
    found = sample_latents(dit, noise=noise, start_time=times[5], **how)
    x = noise
    for t, t_next in pairwise(times[5:]):
        x = x + (t_next - t) * dit(x, torch.full((2,), t), torch.tensor([0, 1]))
    torch.testing.assert_close(found, x)
    between = sample_latents(dit, noise=noise, start_time=(times[5] + times[6]) / 2, **how)
    assert not torch.allclose(between, found, atol=1e-3)
    for start in (0.0, 1.2):
        with pytest.raises(ConfigError, match=f"start_time={start:g} must be at most 1 and above the end"):
            sample_latents(dit, noise=noise, start_time=start, **how)


def test_noise_of_another_shape_is_refused():
    with pytest.raises(
        ConfigError, match=r"noise of shape \(2, 16, 4, 4\): 3 labels and this model need \(3, 16, 4, 4\)"
    ):
        sample_latents(tiny_dit(), noise=drawn(2), labels=[0, 1, 2])
