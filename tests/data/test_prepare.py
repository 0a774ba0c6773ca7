"""prepare_data and HFSource: the round trip, interrupted and not."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from unirae.core.errors import DataError, UserError
from unirae.core.io import read_json
from unirae.data.hf import HFSource
from unirae.data.prepare import prepare
from unirae.data.synthetic import SyntheticSource

ENTRY = Path(__file__).parents[2] / "src/prepare_data.py"
SYNTHETIC = SyntheticSource(split="train", image_size=(8, 10), classes=3, train_count=30)


@pytest.fixture
def images(tmp_path) -> Path:
    """Thirty pictures in three class folders, and a broken file."""
    root = tmp_path / "images"
    for i in range(len(SYNTHETIC)):
        sample = SYNTHETIC[i]
        path = root / f"class{sample.label}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        sample.image.save(path)
    (root / "class0/broken.png").write_bytes(b"not an image")
    return root


def tar_of(folder: Path, name: str) -> Path:
    target = folder.with_name(name)
    with tarfile.open(target, "w:gz" if name.endswith("gz") else "w") as archive:
        archive.add(folder, arcname=folder.name)
    return target


def contents(output: Path) -> dict[str, list[tuple[bytes, int]]]:
    sources = {split: HFSource(split=split, data_dir=output) for split in ("train", "val")}
    return {name: [(s[i].image.tobytes(), s[i].label) for i in range(len(s))] for name, s in sources.items()}


def test_a_folder_survives_the_round_trip(images, tmp_path):
    report = prepare(source=images, output=tmp_path / "out", val_fraction=0.2, shard_images=4)
    read = contents(tmp_path / "out")
    assert len(read["train"]) == report["images"]["train"]
    expected = {(SYNTHETIC[i].image.tobytes(), SYNTHETIC[i].label) for i in range(30)}
    assert set(read["train"]) | set(read["val"]) == expected
    assert len(read["train"]) + len(read["val"]) == 30
    assert HFSource(split="val", data_dir=tmp_path / "out").class_names == ("class0", "class1", "class2")
    assert report["unreadable"] == [{"path": "class0/broken.png", "reason": "not an image"}]
    assert read_json(tmp_path / "out/report.json") == report
    assert not list(tmp_path.glob(".*"))


def test_the_original_bytes_are_kept(images, tmp_path):
    prepare(source=images, output=tmp_path / "out")
    source = HFSource(split="train", data_dir=tmp_path / "out")
    for row in source._rows:
        assert row["image"]["bytes"] == (images / row["image"]["path"]).read_bytes()


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems hold UTF-8 names only")
def test_file_names_that_are_not_text(tmp_path):
    (tmp_path / "in").mkdir()
    for name in (b"caf\xe9.png", b"tea.png", b"bad\xe9.png"):
        with open(os.fsencode(tmp_path / "in") + b"/" + name, "wb") as file:
            if not name.startswith(b"bad"):
                SYNTHETIC[0].image.save(file, "PNG")
    report = prepare(source=tmp_path / "in", output=tmp_path / "out", val_fraction=0)
    assert report["images"] == {"train": 2}
    assert [bad["path"] for bad in report["unreadable"]] == ["bad\\xe9.png"]


def test_one_picture_is_not_held_out_without_a_word(tmp_path):
    (tmp_path / "in").mkdir()
    SYNTHETIC[0].image.save(tmp_path / "in/only.png")
    with pytest.raises(DataError, match=r"all of its images \(1\) would be held out .* val_fraction=0"):
        prepare(source=tmp_path / "in", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert prepare(source=tmp_path / "in", output=tmp_path / "out", val_fraction=0)["images"] == {"train": 1}


@pytest.mark.parametrize("name", ["images.tar", "images.tar.gz"])
def test_a_tar_gives_what_its_folder_gives(images, tmp_path, name):
    prepare(source=images, output=tmp_path / "a", val_fraction=0)
    prepare(source=tar_of(images, name), output=tmp_path / "b", val_fraction=0)
    a, b = (HFSource(split="train", data_dir=tmp_path / x, val_fraction=0) for x in "ab")
    assert {(a[i].image.tobytes(), a[i].label) for i in range(30)} == {
        (b[i].image.tobytes(), b[i].label) for i in range(30)
    }


def test_a_tar_of_tars_as_imagenets(images, tmp_path):
    outer = tmp_path / "train.tar"
    with tarfile.open(outer, "w") as archive:
        for folder in sorted(images.iterdir()):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for file in folder.iterdir():
                    inner.add(file, arcname=file.name)
            member = tarfile.TarInfo(f"{folder.name}.tar")
            member.size = buffer.tell()
            buffer.seek(0)
            archive.addfile(member, buffer)
    report = prepare(source=outer, output=tmp_path / "out")
    assert report["classes"] == ["class0", "class1", "class2"]
    assert sum(report["images"].values()) == 30


def test_an_interrupted_run_continues(images, tmp_path):
    """The second run redoes no finished shard, and the result is the uninterrupted one's."""
    options = {"source": images, "shard_images": 4, "val_fraction": 0.2}

    def stop(done: int, total: int) -> None:
        if done >= 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(output=tmp_path / "out", progress=stop, **options)
    assert not (tmp_path / "out").exists()
    finished = {f: f.stat().st_mtime_ns for f in (tmp_path / ".out.partial").rglob("*.arrow")}
    assert len(finished) == 3
    (tmp_path / ".out.partial/train/.data-9.arrow.123.tmp").write_bytes(b"left by a kill")
    prepare(output=tmp_path / "out", **options)
    for file, written in finished.items():
        assert (tmp_path / "out" / file.relative_to(tmp_path / ".out.partial")).stat().st_mtime_ns == written
    prepare(output=tmp_path / "whole", **options)
    files = {f.relative_to(tmp_path / "whole"): f.read_bytes() for f in (tmp_path / "whole").rglob("*.*")}
    assert files == {f.relative_to(tmp_path / "out"): f.read_bytes() for f in (tmp_path / "out").rglob("*.*")}


def test_a_finished_output_is_reused_and_a_foreign_one_refused(images, tmp_path):
    first = prepare(source=images, output=tmp_path / "out")
    before = os.stat(tmp_path / "out/report.json").st_mtime_ns
    assert prepare(source=images, output=tmp_path / "out") == first
    assert os.stat(tmp_path / "out/report.json").st_mtime_ns == before
    with pytest.raises(DataError, match="exists"):
        prepare(source=images, output=tmp_path / "out", val_fraction=0.5)
    with pytest.raises(DataError, match="exists"):
        prepare(source=images, output=images)


def test_a_full_disk_leaves_no_output(images, tmp_path, monkeypatch):
    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unirae.data.prepared_hf.write_arrow", full)
    with pytest.raises(UserError, match="No space left"):
        prepare(source=images, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / ".out.partial").rglob("*.arrow"))
    monkeypatch.undo()
    assert sum(prepare(source=images, output=tmp_path / "out")["images"].values()) == 30


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_inputs_that_are_nothing(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.tar"):
        prepare(source=tmp_path / "x.tar", output=tmp_path / "out")
    with pytest.raises(DataError, match="gone"):
        prepare(source=tmp_path / "gone", output=tmp_path / "out")


def test_a_truncated_tar(images, tmp_path):
    tar = tar_of(images, "images.tar.gz")
    tar.write_bytes(tar.read_bytes()[:-500])
    with pytest.raises(DataError, match="truncated"):
        prepare(source=tar, output=tmp_path / "out")


def test_only_unreadable_images(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / f"in/{i}.jpg").write_text("no")
    with pytest.raises(DataError, match="no readable image"):
        prepare(source=tmp_path / "in", output=tmp_path / "out")


def test_the_command(images, tmp_path):
    command = [
        sys.executable,
        ENTRY,
        "--input",
        images,
        "--output",
        tmp_path / "out",
        "--val_fraction",
        "0.1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 unreadable" in done.stderr
    shutil.rmtree(images)
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.strip().startswith("error: ")
    assert len(failed.stderr.strip().splitlines()) == 1


def test_parquet_files_with_and_without_splits(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as HFImage

    def rows(n):
        pictures = []
        for i in range(n):
            buffer = io.BytesIO()
            Image.new("RGB", (4, 4), (i, 0, 0)).save(buffer, "PNG")
            pictures.append({"bytes": buffer.getvalue(), "path": None})
        return {"photo": pictures, "label": [i % 2 for i in range(n)]}

    typed = Features({"photo": HFImage(), "label": ClassLabel(names=["even", "odd"])})
    Dataset.from_dict(rows(10), features=typed).to_parquet(tmp_path / "p/train-0.parquet")
    Dataset.from_dict(rows(4), features=typed).to_parquet(tmp_path / "p/validation-0.parquet")
    val = HFSource(split="val", data_dir=tmp_path / "p")
    assert len(val) == 4
    assert val.class_names == ("even", "odd")
    assert val[3].label == 1
    assert val[3].image.getpixel((0, 0)) == (3, 0, 0)

    plain = Features({"photo": HFImage(), "label": Value("int64")})
    Dataset.from_dict(rows(10), features=plain).to_parquet(tmp_path / "one.parquet")
    train, held = (HFSource(split=s, data_dir=tmp_path / "one.parquet") for s in ("train", "val"))
    assert (len(train), len(held)) == (9, 1)
    assert train.class_names == held.class_names == ("0", "1")
    with pytest.raises(DataError, match="no column 'nope'"):
        HFSource(split="train", data_dir=tmp_path / "one.parquet", image_column="nope")
    with pytest.raises(DataError, match="no split 'dev'"):
        HFSource(split="val", data_dir=tmp_path / "one.parquet", val_split="dev")


def test_folders_that_are_no_dataset(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        HFSource(split="train", data_dir=tmp_path / "gone")
    with pytest.raises(DataError, match="of image files use FolderSource"):
        HFSource(split="train", data_dir=tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"cannot read.*bad\.parquet"):
        HFSource(split="train", data_dir=tmp_path / "bad.parquet")
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(DataError, match="cannot read"):
        HFSource(split="train", data_dir=tmp_path)


def test_copies_are_counted_and_those_in_both_splits_told(tmp_path):
    for name, number in (
        ("train/a", 0),
        ("train/b", 1),
        ("train/c", 1),
        ("val/d", 2),
        ("val/e", 0),
        ("train/f", 3),
    ):
        file = tmp_path / "in" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        SYNTHETIC[number].image.save(file)
    report = prepare(source=tmp_path / "in", output=tmp_path / "out", labels=False)
    assert report["copies"] == {"files": 2, "pictures_in_several_splits": 1}
    assert read_json(tmp_path / "out/report.json")["copies"] == report["copies"]
