"""Training order: one process and many see the same batches, from any step on."""

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unirae.core.errors import ConfigError
from unirae.data.order import EndlessBatches
from unirae.data.sample_key import derived_seed


def take(n: int, **options) -> list:
    return list(islice(EndlessBatches(seed=3, **options), n))


@settings(max_examples=40, deadline=None)
@given(world=st.integers(1, 4), part=st.integers(1, 4), extra=st.integers(0, 17))
def test_ranks_together_see_the_batches_of_one_process(world, part, extra):
    batch_size = world * part
    count = 2 * batch_size + extra
    alone = take(6, count=count, batch_size=batch_size)
    ranks = [take(6, count=count, batch_size=batch_size, rank=r, world_size=world) for r in range(world)]
    assert alone == [[key for part in parts for key in part] for parts in zip(*ranks, strict=True)]


@settings(max_examples=40, deadline=None)
@given(count=st.integers(4, 40), batch_size=st.integers(1, 4), start=st.integers(0, 60))
def test_a_resumed_run_goes_on_where_it_was(count, batch_size, start):
    whole = take(start + 5, count=count, batch_size=batch_size)
    assert take(5, count=count, batch_size=batch_size, start_step=start) == whole[start:]


@settings(max_examples=40, deadline=None)
@given(count=st.integers(4, 40), batch_size=st.integers(1, 4))
def test_an_epoch_repeats_nothing_and_drops_less_than_a_batch(count, batch_size):
    per_epoch = count // batch_size
    for epoch in range(3):
        batches = take(per_epoch, count=count, batch_size=batch_size, start_step=epoch * per_epoch)
        keys = [key for batch in batches for key in batch]
        assert {key.epoch for key in keys} == {epoch}
        assert len({key.index for key in keys}) == len(keys) > count - batch_size
        assert all(0 <= key.index < count for key in keys)


def test_epochs_and_seeds_differ():
    first, second = take(2, count=50, batch_size=50)
    assert [k.index for k in first] != [k.index for k in second]
    assert next(iter(EndlessBatches(count=50, batch_size=50, seed=4))) != first


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = take(3, count=20, batch_size=5)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    assert take(3, count=20, batch_size=5) == first


@pytest.mark.parametrize(
    "sizes", [{"count": 5, "batch_size": 6}, {"count": 9, "batch_size": 3, "world_size": 2}]
)
def test_impossible_batches_are_refused(sizes):
    with pytest.raises(ConfigError, match=r"^batch_size="):
        EndlessBatches(seed=0, **sizes)


def test_seeds_do_not_collide():
    seeds = {derived_seed(s, e, i) for s in range(5) for e in range(5) for i in range(200)}
    assert len(seeds) == 5 * 5 * 200
