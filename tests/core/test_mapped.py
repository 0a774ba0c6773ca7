"""Tensors in a file: the same numbers, written and read as before, and no memory for what nobody reads."""

import copy
import os
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from unirae.core.mapped import MappedTensors, can_be_mapped


def tensors() -> list[Tensor]:
    conv = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    return [
        nn.Parameter(torch.randn(7, 3), requires_grad=False),
        conv.weight,
        torch.arange(3),
        torch.rand(5).half(),
    ]


def test_numbers_and_layout_stay() -> None:
    moved = tensors()
    before = [(t.detach().clone(), t.stride(), t.requires_grad) for t in moved]
    MappedTensors(moved)
    for tensor, (numbers, stride, wants_gradient) in zip(moved, before, strict=True):
        assert torch.equal(tensor, numbers)
        assert (tensor.stride(), tensor.requires_grad) == (stride, wants_gradient)
        assert can_be_mapped(tensor)  # each still has a storage of its own: what is saved of it is it alone


def test_what_is_written_outlives_letting_go() -> None:
    layer = nn.Linear(64, 64)
    mapped = MappedTensors([layer.weight])
    with torch.no_grad():
        layer.weight.fill_(3.0)
    mapped.release()
    assert (layer.weight == 3.0).all()
    layer(torch.ones(1, 64)).sum().backward()
    assert layer.weight.grad is not None
    assert (copy.deepcopy(layer).weight == 3.0).all()


def test_numbers_outlive_who_moved_them() -> None:
    (tensor,) = moved = [torch.arange(1000.0)]
    MappedTensors(moved)
    assert torch.equal(tensor, torch.arange(1000.0))


def test_only_whole_tensors_of_the_cpu_can_be_mapped() -> None:
    whole = torch.zeros(4, 4)
    assert can_be_mapped(whole)
    assert can_be_mapped(whole.T)
    for other in (whole[0], torch.zeros(4).expand(4, 4), torch.zeros(4, device="meta"), torch.zeros(0)):
        assert not can_be_mapped(other)


def test_without_a_folder_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path / "file"))
    tensor = torch.ones(3)
    address = tensor.data_ptr()
    with pytest.raises(OSError, match="file"):
        MappedTensors([tensor])
    assert tensor.data_ptr() == address


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_holds_what_is_read_until_it_is_let_go() -> None:
    tensor = torch.ones(2**24)  # 64 MiB
    address = tensor.untyped_storage().data_ptr()
    mapped = MappedTensors([tensor])
    moved = resident_bytes()
    tensor.sum()
    read = resident_bytes()
    mapped.release()
    assert tensor.untyped_storage().data_ptr() != address  # the allocator may keep what it got back
    assert read - moved > 2**25
    assert read - resident_bytes() > 2**25


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
