"""Keeping a DiT^DH's trunk between evaluations."""

import pytest
import torch

from unirae.core.errors import ConfigError
from unirae.evaluation.sampling.settings import SamplerSettings, guided_velocity
from unirae.flow.solvers import solve
from unirae.models.denoisers.dit import DiT
from unirae.models.denoisers.dit_dh import DiTDH
from unirae.models.denoisers.trunk_reuse import reusing_trunk

LABELS = torch.tensor([0, 2])
NOISE = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0))


class Counted(DiTDH):
    """Counts its trunk's computations, and notes the batch of each."""

    def run_trunk(self, x, time, y):
        self.batches = [*getattr(self, "batches", []), len(x)]
        return super().run_trunk(x, time, y)


def network(seed=0, kind=Counted, prediction="velocity"):
    dit = kind(
        input_size=4, in_channels=16, num_classes=3, hidden_size=[16, 32], depth=[1, 1], num_heads=[2, 2],
        time_shift=2.0, prediction=prediction,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    for parameter in dit.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    return dit.eval().requires_grad_(False)


def sampled(dit, guide=None, **settings):
    how = SamplerSettings(**settings)
    velocity = guided_velocity(dit, LABELS, how, guide)
    return solve(how.solver, velocity, NOISE, how.times(dit))


def test_the_halves_make_the_whole():
    dit, t = network(), torch.tensor([0.3, 0.8])
    time = dit.time_embed(t)
    assert torch.equal(dit.run_head(NOISE, time, dit.run_trunk(NOISE, time, LABELS)), dit(NOISE, t, LABELS))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_trunk_for_every_evaluation_changes_nothing(scale):
    dit = network()
    assert reusing_trunk(dit, 1) is dit
    assert torch.equal(
        sampled(dit, num_steps=6, cfg_scale=scale),
        sampled(dit, num_steps=6, cfg_scale=scale, trunk_every=1),
    )


@pytest.mark.parametrize(("every", "computed"), [(2, 3), (3, 2), (4, 2), (9, 1)])
def test_every_kth_trunk_is_a_loop_by_hand(every, computed):
    dit = network()
    found = sampled(dit, num_steps=6, trunk_every=every)
    assert len(dit.batches) == computed
    x, times = NOISE, SamplerSettings(num_steps=6).times(dit)
    kept = None
    for step in range(5):
        time = dit.time_embed(torch.full((2,), times[step]))
        if step % every == 0:
            kept = dit.run_trunk(x, time, LABELS)
        x = x + (times[step + 1] - times[step]) * dit.run_head(x, time, kept)
    torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, sampled(dit, num_steps=6), atol=1e-3)


def test_what_the_output_means_is_read_as_without_it():
    """Of a network that predicts data: a trunk kept for one evaluation is the network's own."""
    dit, t = network(prediction="data"), torch.tensor([0.3, 0.8])
    reuse = reusing_trunk(dit, 2)
    assert reuse is not dit
    torch.testing.assert_close(reuse(NOISE, t, LABELS), dit(NOISE, t, LABELS))


def test_heun_keeps_it_for_its_second_stage():
    dit = network()
    sampled(dit, num_steps=4, solver="heun", trunk_every=2)
    assert dit.batches == [2, 2, 2]


def test_both_halves_of_guidance_are_kept_together_and_anew_where_it_begins_and_ends():
    dit = network()
    times = SamplerSettings(num_steps=8).times(dit)
    sampled(dit, num_steps=8, cfg_scale=2.0, guidance_interval=(times[5], times[2]), trunk_every=3)
    # evaluations 0 and 1 are plain, 2 to 5 guided, 6 plain
    assert dit.batches == [2, 4, 4, 2]


def test_a_guide_keeps_its_own():
    dit, guide = network(), network(seed=1)
    times = SamplerSettings(num_steps=6).times(dit)
    low = {"cfg_scale": 2.0, "guidance_interval": (0.0, times[1])}  # from the second evaluation on
    found = sampled(dit, guide, num_steps=6, trunk_every=2, **low)
    assert (len(dit.batches), len(guide.batches)) == (3, 2)
    assert not torch.allclose(found, sampled(dit, guide, num_steps=6, **low), atol=1e-3)


def test_solutions_share_nothing():
    dit = network()
    first = sampled(dit, num_steps=4, trunk_every=2)
    assert torch.equal(sampled(dit, num_steps=4, trunk_every=2), first)


def test_what_cannot_be_is_refused():
    plain = DiT(input_size=4, in_channels=16, num_classes=3, hidden_size=16, depth=1, num_heads=2)
    with pytest.raises(ConfigError, match="a DiT has no trunk"):
        sampled(plain, trunk_every=2)
    with pytest.raises(ConfigError, match="a DiT has no trunk"):
        sampled(network(), plain, trunk_every=2, cfg_scale=2.0)
    with pytest.raises(ConfigError, match="at least 1"):
        sampled(network(), trunk_every=0)
    with pytest.raises(ConfigError, match="dopri5"):
        sampled(network(), trunk_every=2, solver="dopri5")
