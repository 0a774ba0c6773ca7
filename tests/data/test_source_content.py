"""The identity of what a source holds: it changes with the pictures, whatever their files are called."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from unirae.data import source_content
from unirae.data.folder import FolderSource
from unirae.data.hf import HFSource
from unirae.data.one_image import OneImageSource
from unirae.data.source_content import changes, content_of, recorded


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a/1.bmp", "a/2.bmp", "b/1.bmp"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (90, 90, 3), dtype=np.uint8)).save(tmp_path / "d" / name)
    return tmp_path / "d"


def held(folder, **options):
    return content_of(FolderSource(split="train", data_dir=folder, val_fraction=0, **options))


@pytest.fixture
def large(monkeypatch):
    """Every folder is one of those that are not read whole."""
    monkeypatch.setattr(source_content, "WHOLE_FILES", 1)


def invert(file, *, keep_time):
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    pixels = np.asarray(Image.open(file))
    Image.fromarray(255 - pixels).save(file)  # a BMP keeps its size
    os.utime(file, ns=times if keep_time else (0, 0))


@pytest.mark.parametrize("which", ["small", "large"])
def test_changed_pixels_are_noticed_under_the_same_names_sizes_and_times(folder, which, request):
    if which == "large":
        request.getfixturevalue("large")
    before = held(folder)
    invert(folder / "b/1.bmp", keep_time=True)
    assert changes(before, held(folder)) == ["the contents of the images"]


def test_of_small_data_times_and_places_are_not_part(folder, tmp_path):
    before = held(folder)
    os.utime(folder / "a/1.bmp", ns=(0, 0))
    moved = shutil.move(folder, tmp_path / "moved")
    assert held(moved) == before


@pytest.mark.usefixtures("large")
def test_of_large_data_times_count_unless_every_byte_is_read(folder):
    before, whole = held(folder), held(folder, verify_contents=True)
    os.utime(folder / "a/1.bmp", ns=(0, 0))
    assert changes(before, held(folder)) == ["the times of the files"]
    assert changes(whole, held(folder, verify_contents=True)) == []
    assert "times_sha256" in before
    assert "times_sha256" not in recorded(FolderSource(split="train", data_dir=folder, val_fraction=0))


@pytest.mark.usefixtures("large")
def test_a_byte_that_no_block_holds_is_seen_by_all_bytes_alone(folder):
    file = folder / "a/1.bmp"
    file.write_bytes(file.read_bytes() + bytes(10**6))
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    before, whole = held(folder), held(folder, verify_contents=True)
    with open(file, "r+b") as stream:
        stream.seek(300_000)
        stream.write(b"x")
    os.utime(file, ns=times)
    assert changes(before, held(folder)) == []
    assert changes(whole, held(folder, verify_contents=True)) == ["the contents of the images"]


def test_other_classes_are_noticed(folder):
    before = held(folder)
    (folder / "b").rename(folder / "c")
    assert "the classes or labels" in changes(before, held(folder))


def test_files_that_are_missing_are_no_error(folder):
    (folder / "a/gone.png").symlink_to("/nowhere/gone.png")
    assert held(folder)["missing"] == 1


def test_a_source_looks_again_only_when_asked(folder):
    source = FolderSource(split="train", data_dir=folder, val_fraction=0)
    before = source.content()
    invert(folder / "a/1.bmp", keep_time=False)
    assert source.content() == before
    assert changes(before, source.content(anew=True)) == ["the contents of the images"]


def test_what_was_not_recorded_is_said():
    old = {"source": "image_folder", "count": 3, "path": "/old", "hf_fingerprint": "12"}
    new = {"source": "image_folder", "count": 3, "path": "/new", "bytes_sha256": "ab"}
    assert changes(old, new) == ["the contents of the images (not recorded there)"]


def test_hugging_face_data_are_known_by_their_files(folder, tmp_path):
    from unirae.data.prepare import prepare

    prepare(source=folder, output=tmp_path / "p", val_fraction=0)
    before = content_of(HFSource(split="train", data_dir=tmp_path / "p", val_fraction=0))
    shutil.rmtree(tmp_path / "p")
    for file in folder.rglob("*.bmp"):
        invert(file, keep_time=True)
    prepare(source=folder, output=tmp_path / "p", val_fraction=0)
    after = content_of(HFSource(split="train", data_dir=tmp_path / "p", val_fraction=0))
    assert changes(before, after) == ["the contents of the images"]


def test_files_that_rows_name_instead_of_holding_are_read(folder, tmp_path, monkeypatch):
    """Rows with a path and no bytes: the table stays as it is when such a picture changes."""
    import datasets
    import pyarrow as pa
    from pyarrow import parquet

    files = sorted(folder.rglob("*.bmp"))
    rows = [{"image": {"bytes": None, "path": str(file)}, "label": 0} for file in files]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    parquet.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), tmp_path / "rows.parquet")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def held():
        return content_of(HFSource(split="train", data_dir=tmp_path / "rows.parquet", val_fraction=0))

    before = held()
    invert(files[1], keep_time=True)
    assert changes(before, held()) == ["the contents of the images"]
    invert(files[1], keep_time=True)
    assert held() == before
    files[2].unlink()
    assert changes(before, held())[-1] == "which files are missing (none there, 1 here)"


def test_one_image_is_known_by_its_pixels(folder):
    def one():
        return content_of(
            OneImageSource(split="train", of=FolderSource(split="train", data_dir=folder, val_fraction=0))
        )

    before = one()
    invert(folder / "a/1.bmp", keep_time=True)
    assert before["sha256"] != one()["sha256"]
