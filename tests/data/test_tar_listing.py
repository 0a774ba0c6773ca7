"""Which tars a path means, and which are for training."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_shards import sample_members, write_tar
from unirae.core.errors import DataError
from unirae.data.split_folders import UnclearSplitsError, split_word
from unirae.data.tar_index import Shard
from unirae.data.tar_listing import expand_braces, find_shards, holds_shards, split_shards


def names(where) -> list[str]:
    return [shard.name for shard in find_shards(str(where))]


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def test_a_folder_in_natural_order_without_what_is_hidden(tmp_path):
    touch(
        tmp_path,
        "s10.tar",
        "s9.tar",
        "b/s1.TAR",
        ".unirae_index/s9.tar.x.arrow",
        "._s9.tar",
        ".h/x.tar",
        "notes.md",
    )
    assert names(tmp_path) == ["b/s1.TAR", "s9.tar", "s10.tar"]


def test_links_are_followed_once(tmp_path):
    touch(tmp_path, "data/a/0.tar", "far/1.tar")
    os.symlink("../far/1.tar", tmp_path / "data/1.tar")
    os.symlink(tmp_path / "data", tmp_path / "data/a/round")
    os.symlink("nowhere.tar", tmp_path / "data/2.tar")
    assert names(tmp_path / "data") == ["1.tar", "a/0.tar"]


def test_patterns(tmp_path):
    touch(tmp_path, *(f"d/{s}-{i:03d}.tar" for s in ("train", "val") for i in range(12)))
    assert names(tmp_path / "d/train-{008..011}.tar") == [f"train-{i:03d}.tar" for i in range(8, 12)]
    assert len(find_shards(str(tmp_path / "{d,d}/{train,val}-{000..005}.tar").replace("{d,d}", "d"))) == 12
    with pytest.raises(DataError, match=r"2 of its 3 shards do not exist: train-012\.tar, train-013\.tar"):
        names(tmp_path / "d/train-{011..013}.tar")
    with pytest.raises(DataError, match="means some shards twice"):
        names(tmp_path / "d/train-{000..001}{,}.tar")
    with pytest.raises(DataError, match=r"\{x\} is no pattern"):
        names(tmp_path / "d/train-{x}.tar")
    with pytest.raises(DataError, match="more than 1,000,000 shards"):
        names(tmp_path / "d/{0..9999999}.tar")
    write_tar(tmp_path / "odd-{0..1}.tar", {})
    assert names(tmp_path / "odd-{0..1}.tar") == ["odd-{0..1}.tar"]


@given(st.integers(0, 400), st.integers(0, 60), st.integers(0, 6))
def test_a_range_counts_with_its_leading_zeros(first, more, zeros):
    width = len(str(first + more)) + zeros
    found = list(expand_braces(f"a{{{first:0{width}d}..{first + more:0{width}d}}}b"))
    assert found == [f"a{i:0{width}d}b" for i in range(first, first + more + 1)]


def test_a_range_without_zeros_and_one_that_runs_backwards():
    assert list(expand_braces("{8..11}")) == ["8", "9", "10", "11"]
    assert list(expand_braces("{3..1}")) == []
    assert list(expand_braces("{a,b}{1..2}")) == ["a1", "a2", "b1", "b2"]


def test_compressed_tars_are_refused_unless_the_plain_one_is_there(tmp_path):
    touch(tmp_path, "a.tar", "a.tar.gz")
    assert names(tmp_path) == ["a.tar"]
    touch(tmp_path, "b.tgz", "c.tar.zst")
    with pytest.raises(DataError, match=r"2 compressed tars \(b\.tgz, c\.tar\.zst\).*decompress each once"):
        names(tmp_path)
    with pytest.raises(DataError, match=r"1 compressed tar \(b\.tgz\)"):
        names(tmp_path / "b.tgz")


def test_nothing_there(tmp_path):
    for where in (tmp_path, tmp_path / "gone", tmp_path / "gone.tar"):
        with pytest.raises(
            DataError, match=r"(holds no \.tar files|does not exist); expected a folder of \.tar"
        ):
            names(where)


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(DataError, match=r"a\.tar is neither a folder nor a file"):
        names(tmp_path / "a.tar")


def splits(*paths, train=None, val=None):
    shards = [Shard(path, None) for path in paths]
    found = split_shards(shards, train=train, val=val, where="here")
    return tuple(part and [shard.name for shard in part] for part in found)


def test_splits():
    assert splits("0.tar", "1.tar") == (["0.tar", "1.tar"], None)
    assert splits("x/train/0.tar", "x/val/0.tar") == (["x/train/0.tar"], ["x/val/0.tar"])
    assert splits("x/train/0.tar", "x/train/1.tar") == (["x/train/0.tar", "x/train/1.tar"], None)
    assert splits("a/0.tar", "b/0.tar") == (["a/0.tar", "b/0.tar"], None)
    assert splits("a/train-0.tar", "b/val-0.tar") == (["a/train-0.tar"], ["b/val-0.tar"])
    assert splits("s-val-0.tar", "s-test-0.tar", "s-train-0.tar") == (["s-train-0.tar"], ["s-val-0.tar"])
    assert splits("train-0.tar", "val-0.tar", train=".") == (["train-0.tar", "val-0.tar"], None)
    assert splits("train-00000-of-00002.tar", "x-00001-of-00002.tar", val="x") == (
        ["train-00000-of-00002.tar"],
        ["x-00001-of-00002.tar"],
    )
    with pytest.raises(UnclearSplitsError, match="my_trainset"):
        splits("my_trainset/0.tar", "val/0.tar")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("cc3m-train-0001", "train"),
        ("TRAIN_256", "train"),
        ("val2", "val"),
        ("trainset-1", None),
        ("a", None),
    ],
)
def test_a_word_for_a_split_in_a_name(name, word):
    assert split_word(name) == word


def test_a_folder_of_shards_is_told_from_one_of_pictures(tmp_path):
    write_tar(tmp_path / "s/a.tar", sample_members(range(1)))
    touch(tmp_path, "p/a.jpg", "p/old.tar", "e/x.txt")
    assert [holds_shards(tmp_path / name) for name in ("s", "p", "e", "s/a.tar", "gone")] == [
        True,
        False,
        False,
        True,
        False,
    ]
