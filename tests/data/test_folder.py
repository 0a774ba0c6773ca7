"""Folders of images: what is a class, what is a split, and what is wrong."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unirae.core.errors import ConfigError, DataError
from unirae.data.dataset import ImageDataset
from unirae.data.folder import FolderSource
from unirae.data.listing import arrange
from unirae.data.transforms import AdmCenterCrop


def make(root, *paths: str):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(path), 0, 0)).save(root / path)
    return root


def both(root, **options) -> tuple[FolderSource, FolderSource]:
    return tuple(FolderSource(split=s, data_dir=root, **options) for s in ("train", "val"))


def test_class_folders_with_a_fixed_held_out_part(tmp_path):
    make(tmp_path, *(f"{c}/{i}.png" for c in ("cat", "dog") for i in range(20)), ".hidden/x.png")
    (tmp_path / "dog/notes.txt").write_text("no image")
    train, val = both(tmp_path)
    assert (len(train), len(val)) == (36, 4)
    assert train.class_names == val.class_names == ("cat", "dog")
    assert {train[i].label for i in range(36)} == {0, 1}
    assert train.fingerprint != val.fingerprint
    assert both(tmp_path)[1].fingerprint == val.fingerprint


def test_train_and_val_folders(tmp_path):
    make(tmp_path, "train/a/1.png", "train/b/2.png", "train/b/3.png", "val/b/4.JPEG")
    train, val = both(tmp_path)
    assert (len(train), len(val)) == (3, 1)
    assert val[0].label == 1


def test_only_a_train_folder_is_the_root(tmp_path):
    train, val = both(make(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(5))))
    assert train.class_names == ("a", "b")
    assert len(train) + len(val) == 10


def test_a_flat_folder_has_no_classes(tmp_path):
    train, val = both(make(tmp_path, *(f"{i}.png" for i in range(10))))
    assert train.num_classes == 0
    assert train[0].label == 0
    assert len(val) == 1
    assert len(FolderSource(split="val", data_dir=tmp_path, val_fraction=1.0)) == 10


def test_names_that_are_not_text():
    listing = arrange(["a/\udcff.png", "a/b.png"], val_fraction=0.5, where="here")
    assert len(listing.train) == len(listing.val) == 1


def test_one_class_is_a_class(tmp_path):
    assert both(make(tmp_path, "cat/1.png", "cat/2.png"))[0].class_names == ("cat",)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], r"holds no images; expected CLASS/\*\.jpg"),
        (["train/a/1.png", "val/c/2.png"], r"val has \['c'\]"),
        (["train/a/1.png", "val/2.png"], "no class folders"),
        (["only.png"], "leaves no images for split 'train'"),
    ],
)
def test_folders_that_cannot_work(tmp_path, paths, message):
    with pytest.raises(DataError, match=message) as error:
        both(make(tmp_path, *paths))
    assert str(tmp_path) in str(error.value)


def test_missing_and_unset_folders(tmp_path):
    with pytest.raises(DataError, match=r"gone does not exist.*expected"):
        FolderSource(split="train", data_dir=tmp_path / "gone")
    with pytest.raises(DataError, match="DATA_DIR"):
        FolderSource(split="train", data_dir=None)


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    make(tmp_path, "a/1.png")
    scandir = os.scandir

    def refuse(path):  # chmod would not stop root
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot read .*/a: Permission denied"):
        FolderSource(split="train", data_dir=tmp_path)


def test_a_class_folder_with_one_broken_file(tmp_path):
    make(tmp_path, "train/a/1.png", "train/a/2.png", "val/a/3.png")
    (tmp_path / "train/a/1.png").write_bytes(b"\x89PNG broken")
    data = ImageDataset(source=both(tmp_path)[0], transform=AdmCenterCrop(size=4))
    assert data[0]["index"] == 1
    assert data.bad_image_count == 1


names = st.text("ab1", min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    paths=st.sets(st.tuples(names, names).map(lambda p: f"{p[0]}/{p[1]}.png"), min_size=1, max_size=20),
    fraction=st.floats(0, 1),
)
def test_every_file_lands_in_exactly_one_split(paths, fraction):
    listing = arrange(paths, val_fraction=fraction, where="here")
    found = [e.path for e in (*listing.train, *listing.val)]
    assert sorted(found) == sorted(paths)
    for entry in (*listing.train, *listing.val):
        assert listing.class_names[entry.label] == entry.path.split("/")[0]


def test_fractions_out_of_range():
    with pytest.raises(ConfigError, match="val_fraction"):
        arrange(["a.png"], val_fraction=1.5, where="here")
