"""Indexes of shards: kept, found again, made anew where the shard is another, and shared by processes at once."""

import logging
import os
import subprocess
import sys
import threading

import pytest

from tiny_shards import sample_members, write_tar
from unirae.core.errors import DataError
from unirae.core.file_lock import locked
from unirae.data import tar_index
from unirae.data.tar_index import FOLDER, Shard, ShardIndex, open_indexes


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory, caplog):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(folder / "c"))
    caplog.set_level(logging.INFO)
    return folder / "c"


@pytest.fixture
def reads(monkeypatch):
    """The shards that are read through, as they are."""
    found = []
    read = tar_index._read
    monkeypatch.setattr(
        tar_index, "_read", lambda shard, columns: found.append(shard.name) or read(shard, columns)
    )
    return found


def opened(*paths, columns=None) -> list[ShardIndex]:
    return open_indexes([Shard(path.name, path) for path in paths], columns=columns, where="here")


def test_a_shard_is_read_once_and_again_when_it_changes(tmp_path, reads):
    path, other = (write_tar(tmp_path / f"{name}.tar", sample_members(range(3))) for name in "ab")
    assert [index.keys() for index in opened(path, other)] == [["0000", "0001", "0002"]] * 2
    assert [len(index) for index in opened(path, other)] == [3, 3]
    assert sorted(reads) == ["a.tar", "b.tar"]
    write_tar(path, sample_members(range(4)))
    assert [len(index) for index in opened(path, other)] == [4, 3]
    os.utime(path, ns=(0, 0))
    assert len(opened(path)[0]) == 4
    assert reads[2:] == ["a.tar", "a.tar"]
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


def test_the_same_shard_by_other_columns_is_another_index(tmp_path, reads):
    path = write_tar(tmp_path / "a.tar", {"0.png": b"", "0.json": '{"alt": "x", "text": "y"}'})
    for _ in range(2):
        assert opened(path, columns=("alt",))[0].captions(0) == (("x",),)
        assert opened(path)[0].captions(0) == (("y",),)
        assert opened(path, columns=("txt", "text"))[0].captions(0) == ((), ("y",))
    assert len(reads) == 3


@pytest.mark.parametrize("content", [b"", b"rubbish", b"half"])
def test_a_damaged_index_is_made_anew(tmp_path, reads, content):
    path = write_tar(tmp_path / "a.tar", sample_members(range(3)))
    opened(path)
    (kept,) = (tmp_path / FOLDER).iterdir()
    kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2] if content == b"half" else content)
    assert opened(path)[0].captions(2) == (("grey 2",),)
    opened(path)
    assert len(reads) == 2


def test_beside_shards_that_cannot_be_written_the_cache_keeps_it(tmp_path, cache, reads, caplog):
    path = write_tar(tmp_path / "a.tar", sample_members(range(3)))
    (tmp_path / FOLDER).write_text("in the way")
    for _ in range(2):
        assert len(opened(path)[0]) == 3
    assert len(list((cache / "tar_index").iterdir())) == 1
    assert len(reads) == 1
    assert "kept nowhere" not in caplog.text


def test_where_nothing_can_be_written_it_is_in_memory_with_a_line(tmp_path, cache, caplog):
    path = write_tar(tmp_path / "a.tar", sample_members(range(3)))
    (tmp_path / FOLDER).write_text("in the way")
    cache.write_text("in the way, too")
    assert opened(path)[0].captions(1) == (("grey 1",),)
    assert caplog.text.count("kept nowhere") == 1
    assert "set UNIRAE_CACHE_DIR" in caplog.text


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", sample_members(range(3)))

    def full(file, batch):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tar_index, "_write", full)
    assert len(opened(path)[0]) == 3
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_what_a_disk_refuses_to_read_is_tried_again_the_next_time(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", sample_members(range(40)))
    with monkeypatch.context() as patched:
        real = os.pread

        def failing(descriptor, count, offset):
            if offset > 20_000:
                raise OSError(5, "Input/output error")
            return real(descriptor, count, offset)

        patched.setattr(os, "pread", failing)
        (index,) = opened(path)
    assert 0 < len(index) < 40
    assert index.found.damage == {"a.tar": "it cannot be read further (Input/output error)"}
    assert len(opened(path)[0]) == 40


def test_notes_are_named_by_the_folder_that_is_read_now(tmp_path):
    path = write_tar(tmp_path / "d/a.tar", {"0.png": b"", "1.txt": "lone"})
    opened(path)
    (index,) = open_indexes([Shard("d/a.tar", path)], columns=None, where="there")
    assert index.found.names == {"lone": ["d/a.tar/1"]}


def test_an_index_that_another_process_makes_is_waited_for(tmp_path, reads):
    path = write_tar(tmp_path / "a.tar", sample_members(range(3)))
    place = tar_index._places(Shard("a.tar", path), None)[0]
    there = threading.Event()

    def other():
        with locked(place.with_name(f"{place.name}.lock"), busy=""):
            there.set()
            tar_index._made(Shard("a.tar", path), None, place)

    thread = threading.Thread(target=other)
    thread.start()
    there.wait()
    assert len(opened(path)[0]) == 3
    thread.join()
    assert reads == ["a.tar"]


def test_two_processes_at_once_do_no_harm(tmp_path):
    for number in range(20):
        write_tar(tmp_path / f"{number}.tar", sample_members(range(number, number + 5)))
    program = (
        "import sys; from pathlib import Path; from unirae.data.tar_index import Shard, open_indexes\n"
        "shards = [Shard(p.name, p) for p in sorted(Path(sys.argv[1]).glob('*.tar'))]\n"
        "print(sum(len(index) for index in open_indexes(shards, columns=None, where='x')))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [run.communicate(timeout=120)[0].strip() for run in runs] == ["100", "100"]
    assert len(list((tmp_path / FOLDER).iterdir())) == 20


def test_a_shard_that_is_gone_and_one_that_is_compressed(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone\.tar: No such file"):
        opened(tmp_path / "gone.tar")
    path = tmp_path / "a.tar"
    path.write_bytes(b"\x1f\x8b\x08\x00rest")
    with pytest.raises(DataError, match=r"a\.tar is compressed by gzip.*gzip -d.*give the \.tar$"):
        opened(path)
