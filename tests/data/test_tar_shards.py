"""Tar shards as a source: what a sample is, splits, labels, captions, and what is wrong with real shards."""

import json
import logging
import os
import pickle
import resource
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from tiny_shards import add, picture, sample_members, write_tar
from unirae.core import log as log_module
from unirae.core.errors import DataError
from unirae.data.dataset import ImageDataset
from unirae.data.decode import BadImageError
from unirae.data.source_content import content_of, recorded
from unirae.data.stored import StoredImages
from unirae.data.tar_shards import TarShardsSource
from unirae.data.transforms import AdmCenterCrop


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path_factory, caplog):
    """A cache of the test's own, and lines that were not logged before."""
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(log_module, "_SAID", set())
    caplog.set_level(logging.INFO)


def whole(where, **options) -> TarShardsSource:
    return TarShardsSource(split="train", data_dir=where, **{"val_fraction": 0, **options})


def both(where, **options) -> tuple[TarShardsSource, TarShardsSource]:
    return tuple(TarShardsSource(split=split, data_dir=where, **options) for split in ("train", "val"))


def levels(source) -> list[int]:
    return [source[i].image.getpixel((0, 0))[0] for i in range(len(source))]


def test_samples_in_the_natural_order_of_the_shards_by_number(tmp_path):
    for number in (10, 2, 1):
        write_tar(tmp_path / f"s-{number}.tar", sample_members(range(number * 3, number * 3 + 3), classes=3))
    source = whole(tmp_path)
    assert levels(source) == [3, 4, 5, 6, 7, 8, 30, 31, 32]
    assert [source.name_of(i) for i in (0, 8)] == ["s-1.tar/0003", "s-10.tar/0032"]
    assert [source.captions_of(i) for i in (0, 8)] == [("grey 3",), ("grey 32",)]
    assert source.caption_weights == (1.0,)
    assert [source[i].label for i in range(3)] == [0, 1, 2]
    assert source.class_names == ("0", "1", "2")
    assert source.encoded(4) == picture(7)


def test_any_order_from_several_threads_and_in_another_process(tmp_path):
    for number in range(70):  # more than are held open at once
        write_tar(tmp_path / f"{number}.tar", sample_members(range(number, number + 1)))
    source = whole(tmp_path)
    order = [i * 37 % 70 for i in range(210)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: source[i].image.getpixel((0, 0))[0], order)) == order
    assert len(os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []) < 200
    moved = pickle.loads(pickle.dumps(source))
    assert (levels(moved), moved.captions_of(5)) == (list(range(70)), ("grey 5",))


def test_members_of_a_key_need_not_be_neighbours_and_folders_belong_to_it(tmp_path):
    write_tar(
        tmp_path / "a.tar",
        {
            "./x/1.txt": "one",
            "y/1.txt": "two",
            "./x/1.JPG": picture(1, kind="JPEG"),
            "y/1.webp": picture(2, kind="WEBP"),
            "x/1.seg.png": picture(9),
        },
    )
    source = whole(tmp_path)
    assert [(source.name_of(i), source.captions_of(i)) for i in range(2)] == [
        ("a.tar/x/1", ("one",)),
        ("a.tar/y/1", ("two",)),
    ]
    stored = StoredImages(source)
    assert [stored.stem_of(i) for i in range(2)] == ["a.tar/x/1", "a.tar/y/1"]


# ---------------------------------------------------------------- splits


def test_a_fixed_part_is_held_out_by_the_keys_whatever_the_shards(tmp_path):
    write_tar(tmp_path / "one/a.tar", sample_members(range(40)))
    write_tar(tmp_path / "two/a.tar", sample_members(range(25)))
    write_tar(tmp_path / "two/b.tar", sample_members(range(25, 40)))
    one, two = both(tmp_path / "one"), both(tmp_path / "two")
    assert [len(part) for part in one] == [36, 4]
    assert [levels(part) for part in one] == [levels(part) for part in two]
    assert sorted(levels(one[0]) + levels(one[1])) == list(range(40))
    assert one[0].fingerprint != one[1].fingerprint


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train/0.tar", "val/0.tar"),
        ("data/Train2017/0.tar", "data/val2017/0.tar"),
        ("imagenet-train-000.tar", "imagenet-val-000.tar"),
        ("train_0.tar", "test_0.tar"),
    ],
)
def test_splits_by_folders_and_by_words_in_names(tmp_path, train, val):
    write_tar(tmp_path / train, sample_members(range(6), classes=2))
    write_tar(tmp_path / val, sample_members(range(10, 14), classes=2))
    found = both(tmp_path)
    assert [levels(part) for part in found] == [list(range(6)), list(range(10, 14))]
    assert len(both(tmp_path, train_split=".")[0]) == 9


def test_splits_that_the_user_names(tmp_path, caplog):
    for name, start in (("big-0", 0), ("small-0", 10), ("rest-0", 20)):
        write_tar(tmp_path / f"{name}.tar", sample_members(range(start, start + 4)))
    train, val = both(tmp_path, train_split="big", val_split="small")
    assert (levels(train), levels(val)) == ([0, 1, 2, 3], [10, 11, 12, 13])
    assert "trains on big, validates on small; left out rest (1 shard)" in caplog.text
    with pytest.raises(DataError, match=r"has no shards of huge; it has big, rest, small"):
        both(tmp_path, train_split="huge")
    with pytest.raises(DataError, match="both the training and the validation split"):
        both(tmp_path, train_split="big", val_split="big")


def test_a_class_that_training_lacks_is_refused(tmp_path):
    write_tar(tmp_path / "train-0.tar", {"a.png": picture(1), "a.cls": "cat"})
    write_tar(tmp_path / "val-0.tar", {"a.png": picture(1), "a.cls": "dog"})
    with pytest.raises(DataError, match=r"split 'val' has images of 'dog'.*its classes are 'cat'"):
        both(tmp_path)


# ---------------------------------------------------------------- labels


def test_labels_by_number_or_name_from_cls_or_json(tmp_path):
    members = {f"{i}.png": picture(i) for i in range(5)}
    members |= {"0.cls": "dog\n", "1.json": json.dumps({"label": "cat"}), "2.cls": "7"}
    members |= {"3.json": json.dumps({"cls": "cat"}), "4.json": json.dumps({"class": "dog"})}
    source = whole(write_tar(tmp_path / "a.tar", members))
    assert source.class_names == ("7", "cat", "dog")
    assert [source.class_names[source[i].label] for i in range(5)] == ["dog", "cat", "7", "cat", "dog"]
    assert whole(tmp_path, labels=False).class_names == ()


def test_sparse_numbers_and_samples_without_a_label(tmp_path, caplog):
    values = {0: "950", 1: "3", 2: "-1", 3: "", 4: "3"}
    members: dict[str, bytes | str] = {f"{i}.png": picture(i) for i in range(6)}
    members |= {f"{i}.cls": value for i, value in values.items()}
    source = whole(write_tar(tmp_path / "a.tar", members))
    assert source.class_names == ("3", "950")
    assert [(source[i].image.getpixel((0, 0))[0], source[i].label) for i in range(3)] == [
        (0, 1),
        (1, 0),
        (4, 0),
    ]
    assert "3 of the 6 images of split 'train' have no label" in caplog.text


# ---------------------------------------------------------------- what is wrong


def test_what_cannot_be_read_is_counted_and_named_in_one_line(tmp_path, caplog):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in {
            "0.png": picture(0),
            "0.txt": "größe".encode("latin-1"),
            "1.png": picture(1),
            "1.json": b"{'caption': no json}",
            "2.png": picture(2),
            "2.cls": b"\xe9\xe9",
            "3.json": b"[]",
            "lonely.txt": b"a caption",
            "4.npy": b"123",
            "._5.png": b"of a Mac",
            "README": b"hello",
        }.items():
            add(tar, name, content)
        add(tar, "6.png", type=tarfile.SYMTYPE, linkname="0.png")
    source = whole(tmp_path / "a.tar")
    assert [source.captions_of(i) for i in range(len(source))] == [(), (), ()]
    line = next(record.getMessage() for record in caplog.records if "3 pictures" in record.getMessage())
    assert "not UTF-8: 2 (a.tar/0.txt, a.tar/2.cls)" in line
    assert "no JSON object: 2 (a.tar/1.json, a.tar/3.json)" in line
    assert "without a picture: 2 (a.tar/lonely, a.tar/3)" in line
    assert "not read: 1 link" in line
    assert "npy (1)" in line
    assert "\n" not in line
    assert source.class_names == ()


def test_a_cut_shard_gives_what_is_whole_and_says_what_is_lost(tmp_path, caplog):
    path = write_tar(tmp_path / "a.tar", sample_members(range(5)), format=tarfile.GNU_FORMAT)
    write_tar(tmp_path / "b.tar", sample_members(range(5, 7)))
    with tarfile.open(path) as tar:
        cut = tar.getmember("0003.png").offset_data + 20
    os.truncate(path, cut)
    assert levels(whole(tmp_path)) == [0, 1, 2, 5, 6]
    assert (
        "a.tar: it ends in the middle of 0003.png): 1 sample and what followed there are lost" in caplog.text
    )


def test_two_pictures_of_one_key_are_refused_by_shard_and_key(tmp_path):
    write_tar(tmp_path / "a.tar", {"x.jpg": picture(1), "y.txt": "1", "x.png": picture(2)})
    with pytest.raises(DataError, match=r"^a\.tar: two pictures have the key x, "):
        whole(tmp_path)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for content in (b"one", b"two"):
            add(tar, "x.txt", content)
    with pytest.raises(DataError, match=r"^a\.tar: two 'txt' members have the key x, "):
        whole(tmp_path)


def test_no_pictures_says_what_is_there_instead(tmp_path):
    write_tar(tmp_path / "a.tar", {"my.photo.jpg": picture(1), "b.npy": b"1"})
    with pytest.raises(
        DataError, match=r"no picture is in its 1 tar; .* first dot .* photo\.jpg \(1\), npy \(1\)"
    ):
        whole(tmp_path)
    (tmp_path / "a.tar").write_text("<html>")
    for where in (tmp_path, tmp_path / "a.tar"):
        with pytest.raises(DataError, match=r"a\.tar: it ends in the middle of a header"):
            whole(where)


def test_a_bad_picture_is_named_and_replaced(tmp_path, caplog):
    write_tar(tmp_path / "a.tar", {"0.png": b"no picture", "1.png": picture(1)})
    source = whole(tmp_path)
    with pytest.raises(BadImageError, match=r"^a\.tar/0: not an image$"):
        source[0]
    sample = ImageDataset(source=source, transform=AdmCenterCrop(size=8))[0]
    assert (sample["index"], int(sample["image"][0, 0, 0])) == (1, 1)


@pytest.mark.parametrize("change", ["overwritten", "truncated"])
def test_a_shard_that_is_written_to_while_it_is_open_stops_a_run(tmp_path, change):
    """Else other pictures came under the captions of those that were there."""
    path = write_tar(tmp_path / "a.tar", sample_members(range(3)))
    source = whole(tmp_path)
    assert levels(source) == [0, 1, 2]
    stamp, other = path.stat(), write_tar(tmp_path / "elsewhere/b.tar", sample_members(range(3, 6)))
    assert other.stat().st_size == stamp.st_size
    if change == "overwritten":
        with open(path, "r+b") as file:
            file.write(other.read_bytes())
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    else:
        os.truncate(path, 600)
    with pytest.raises(DataError, match=r"a\.tar has changed since it was indexed") as error:
        source[1]
    assert not isinstance(error.value, BadImageError)


def test_a_process_holds_no_more_shards_open_than_it_may(tmp_path, monkeypatch):
    for number in range(12):
        write_tar(tmp_path / f"{number:02d}.tar", sample_members(range(number, number + 1)))
    for allowed, held in ((32, 8), (2, 1), (2**20, 12), (resource.RLIM_INFINITY, 12)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, allowed=allowed: (allowed, allowed))
        source = whole(tmp_path)
        assert levels(source) == list(range(12))
        assert len(source._files._open) == held


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_shard_that_changes_under_a_run_stops_it(tmp_path, change):
    path = write_tar(tmp_path / "a.tar", sample_members(range(3)))
    source = whole(tmp_path)
    path.unlink()
    if change == "replaced":
        write_tar(path, sample_members(range(5)))
    with pytest.raises(
        DataError, match=r"a\.tar.*(has changed since it was indexed|was there at the start)"
    ) as error:
        source[0]
    assert not isinstance(error.value, BadImageError)  # which would be replaced, by thousands


def test_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    try:
        write_tar(tmp_path / f"{name}/{name}.tar", {f"{name}.png": picture(3), f"{name}.txt": "coffee"})
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    for _ in range(2):
        source = whole(tmp_path)
        assert (levels(source), source.captions_of(0)) == ([3], ("coffee",))
        assert source.name_of(0) == r"caf\xe9/caf\xe9.tar/caf\xe9"
        json.dumps(recorded(source))


def test_content_is_that_of_the_shards_wherever_they_lie(tmp_path):
    for folder in ("one", "two"):
        write_tar(tmp_path / folder / "a.tar", sample_members(range(4)))
    one, two = (content_of(whole(tmp_path / folder)) for folder in ("one", "two"))
    assert one == two
    write_tar(tmp_path / "two/a.tar", {**sample_members(range(4)), "0000.png": picture(200)})
    assert content_of(whole(tmp_path / "two")) != one


def test_jpegs_come_smaller_where_they_may(tmp_path):
    write_tar(tmp_path / "a.tar", {"0.jpg": picture(100, (64, 64), "JPEG")})
    source = whole(tmp_path)
    assert source.reduced(0, (16, 16)).image.size == (16, 16)
    assert source[0].image.size == (64, 64)


def test_an_empty_split_says_why(tmp_path):
    write_tar(tmp_path / "a.tar", sample_members(range(1)))
    with pytest.raises(DataError, match=r"leaves no pictures for split 'train' with val_fraction=1\.0"):
        TarShardsSource(split="train", data_dir=tmp_path, val_fraction=1.0)
