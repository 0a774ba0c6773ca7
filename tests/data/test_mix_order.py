"""The order of a mix: exact proportions, each source's own batches, one process and many, from any step on."""

from collections import Counter
from fractions import Fraction
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirae.core.errors import ConfigError
from unirae.data.mix_order import LONGEST_BLOCK, MixedBatches, Share, SourceDraws, steps_per_epoch
from unirae.data.order import EndlessBatches

WEIGHTS = st.lists(st.sampled_from([0.1, 0.25, 0.5, 1, 1.0, 2, 3, 7.52, 12.04, 1e-3]), min_size=1, max_size=4)
WHOLE = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def shares(counts: list[int], weights: list[float]) -> list[Share]:
    return [
        Share(name=f"s{i}", count=count, weight=weight)
        for i, (count, weight) in enumerate(zip(counts, weights, strict=True))
    ]


def mix(n: int, **options) -> list:
    return list(islice(MixedBatches(**{"seed": 3, **options}), n))


@settings(max_examples=60, deadline=None)
@given(weights=WHOLE, seed=st.integers(0, 5), blocks=st.integers(1, 4))
def test_proportions_of_whole_weights_are_exact_in_every_block(weights, seed, blocks):
    draws = SourceDraws(weights, seed=seed)
    least = sum(weights)
    assert least % draws.block_length == 0
    for block in range(blocks):
        start = block * draws.block_length
        found = Counter(draws.draw(step)[0] for step in range(start, start + draws.block_length))
        assert {i: Fraction(n, draws.block_length) for i, n in found.items()} == {
            i: Fraction(weight, least) for i, weight in enumerate(weights)
        }


@settings(max_examples=60, deadline=None)
@given(weights=WEIGHTS, seed=st.integers(0, 5), steps=st.integers(0, 3000))
def test_counts_stay_within_a_step_of_the_shares_at_the_ends_of_blocks(weights, seed, steps):
    draws = SourceDraws(weights, seed=seed)
    assert draws.block_length <= LONGEST_BLOCK
    assert sum(draws.counts(steps)) == steps
    whole = steps // draws.block_length * draws.block_length
    for count, share in zip(draws.counts(whole), draws.shares, strict=True):
        assert abs(count - whole * share) < 1


@settings(max_examples=40, deadline=None)
@given(weights=WEIGHTS, seed=st.integers(0, 5), start=st.integers(0, 2500))
def test_a_draw_counts_the_earlier_ones_of_its_source(weights, seed, start):
    draws, seen = SourceDraws(weights, seed=seed), Counter()
    for step in range(start + 20):
        source, number = draws.draw(step)
        if step >= start:  # asked out of order, the answer is the same
            assert SourceDraws(weights, seed=seed).draw(step) == (source, number)
            assert draws.counts(step) == [seen[i] for i in range(len(weights))]
        assert number == seen[source]
        seen[source] += 1


@settings(max_examples=30, deadline=None)
@given(
    world=st.integers(1, 4),
    part=st.integers(1, 3),
    extra=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    weights=st.lists(st.integers(1, 4), min_size=3, max_size=3),
)
def test_ranks_together_see_the_batches_of_one_process(world, part, extra, weights):
    batch_size = world * part
    options = {
        "shares": shares([batch_size + n for n in extra], weights[: len(extra)]),
        "batch_size": batch_size,
    }
    alone = mix(9, **options)
    ranks = [mix(9, **options, rank=rank, world_size=world) for rank in range(world)]
    assert alone == [[key for part in parts for key in part] for parts in zip(*ranks, strict=True)]


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.integers(1, 5), min_size=3, max_size=3), start=st.integers(0, 60))
def test_a_resumed_run_goes_on_where_it_was(weights, start):
    options = {"shares": shares([4, 9, 17], weights), "batch_size": 3}
    assert mix(7, **options, start_step=start) == mix(start + 7, **options)[start:]


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.integers(1, 5), min_size=2, max_size=3), seed=st.integers(0, 3))
def test_each_source_gets_the_batches_of_a_run_on_it_alone(weights, seed):
    counts = [5, 12, 8][: len(weights)]
    batches = mix(40, shares=shares(counts, weights), batch_size=4, seed=seed)
    first = 0
    for count in counts:
        own = [batch for batch in batches if first <= batch[0].index < first + count]
        assert all(first <= key.index < first + count for batch in own for key in batch)
        alone = islice(EndlessBatches(count=count, batch_size=4, seed=seed), len(own))
        assert [[(k.index - first, k.epoch) for k in batch] for batch in own] == [
            [(k.index, k.epoch) for k in batch] for batch in alone
        ]
        first += count


def test_blocks_and_seeds_differ_and_the_global_generator_stays():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    draws = SourceDraws([10, 10], seed=0)
    blocks = {tuple(SourceDraws([5, 3], seed=0).draw(8 * b + i)[0] for i in range(8)) for b in range(9)}
    assert len(blocks) > 4
    assert [draws.draw(s) for s in range(40)] != [SourceDraws([10, 10], seed=1).draw(s) for s in range(40)]
    assert torch.equal(state, torch.get_rng_state())


def test_an_epoch_weighs_the_sizes_and_only_ratios_count():
    assert steps_per_epoch(shares([100, 50], [1, 1]), batch_size=10) == 15
    assert steps_per_epoch(shares([100, 50], [0.3, 0.3]), batch_size=10) == 15
    assert steps_per_epoch(shares([100, 50], [1, 3]), batch_size=10) == 12  # (0.5·100 + 1.5·50) / 10 = 12.5
    assert steps_per_epoch(shares([100, 50], [20, 60]), batch_size=10) == 12
    assert (
        steps_per_epoch(shares([99], [7]), batch_size=10)
        == 9
        == MixedBatches(shares=shares([99], [7]), batch_size=10, seed=0).batches_per_epoch
    )


def test_a_few_batches_are_repeated_to_overfit_them():
    options = {"shares": shares([8, 8], [1, 1]), "batch_size": 4}
    assert mix(6, **options, repeat_batches=2) == mix(2, **options) * 3


def test_a_source_that_does_not_fill_a_batch_is_named():
    with pytest.raises(
        ConfigError, match=r"^batch_size=8 is larger than the source s1 .*\(7 images\).*batch_size=6 or"
    ):
        MixedBatches(shares=shares([9, 7], [1, 1]), batch_size=8, seed=0, world_size=2)
    with pytest.raises(ConfigError, match="multiple of the number of processes"):
        MixedBatches(shares=shares([9, 9], [1, 1]), batch_size=3, seed=0, world_size=2)


@pytest.mark.parametrize("weights", [[], [0, 1], [-1], [float("nan")], [float("inf")]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ConfigError, match="numbers above 0"):
        SourceDraws(weights, seed=0)
