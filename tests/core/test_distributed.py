import os
from typing import Any

import pytest
import torch

from processes import run_in_processes
from unirae.core.distributed import all_mean_, all_sum, barrier, is_main, on_main, rank, shard, world_size
from unirae.core.errors import ConfigError


def tensors_of(number: int) -> list[torch.Tensor]:
    """Of several shapes, types and memory layouts, different on each process."""
    generator = torch.Generator().manual_seed(number)
    return [
        torch.randn(3, 4, generator=generator).T,
        torch.randn((), generator=generator, dtype=torch.float64),
        torch.randn(7, generator=generator),
        torch.randn(2, 1, 2, generator=generator, dtype=torch.float64),
    ]


def together() -> dict[str, Any]:
    means = tensors_of(rank())
    all_mean_(means)
    try:
        on_main(refuse)
        mistake = ""
    except ConfigError as error:
        mistake = str(error)
    mine = torch.tensor([2.0**53, float(rank())], dtype=torch.float64)
    return {
        "means": means,
        "sum": all_sum(mine),
        "mine": mine,
        "shard": list(shard(7)),
        "place": (rank(), world_size(), is_main()),
        "of the first": on_main(rank),
        "mistake": mistake,
    }


def refuse() -> None:
    raise ConfigError(f"process {rank()} says no")


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    return run_in_processes(together)


def test_mean_over_processes(results):
    wanted = [(a + b) / 2 for a, b in zip(tensors_of(0), tensors_of(1), strict=True)]
    for result in results:
        for found, mean in zip(result["means"], wanted, strict=True):
            torch.testing.assert_close(found, mean)


def test_sum_keeps_the_type_and_leaves_its_argument(results):
    for number, result in enumerate(results):
        assert result["sum"].tolist() == [2.0**54, 1.0]
        assert result["sum"].dtype == torch.float64
        assert result["mine"].tolist() == [2.0**53, float(number)]


def test_shards_are_apart_and_complete(results):
    assert sorted(results[0]["shard"] + results[1]["shard"]) == list(range(7))


def test_places(results):
    assert [result["place"] for result in results] == [(0, 2, True), (1, 2, False)]


def test_the_first_process_speaks_for_all(results):
    for result in results:
        assert (result["of the first"], result["mistake"]) == (0, "process 0 says no")


def test_one_process_needs_no_group():
    tensors = tensors_of(0)
    all_mean_(tensors)
    for found, own in zip(tensors, tensors_of(0), strict=True):
        assert torch.equal(found, own)
    assert torch.equal(all_sum(tensors[0]), tensors[0])
    assert (list(shard(3)), rank(), world_size(), is_main()) == ([0, 1, 2], 0, 1, True)


def end(how: str) -> None:
    if rank() == 1:
        if how == "dies":
            os._exit(0)
        raise ValueError("no such thing")
    barrier()  # for which the other does not come


@pytest.mark.slow  # each begins with new processes
@pytest.mark.parametrize(
    ("how", "told"), [("raises", "process 1: .*ValueError: no such thing"), ("dies", "process 1: it died")]
)
def test_the_end_of_one_process_fails_a_test(how, told):
    with pytest.raises(pytest.fail.Exception, match=f"(?s){told}|process 0: "):
        run_in_processes(end, how)
    assert run_in_processes(rank) == [0, 1]  # by new ones
