"""prepare_data a second time: what has changed since is noticed, by contents and not by names."""

import io
import json
import os
import sys
import tarfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unirae.app import prepare_data
from unirae.core.errors import DataError, UserError
from unirae.core.file_lock import locked
from unirae.core.io import read_json
from unirae.data import prepared_shards
from unirae.data.decode import BadImageError
from unirae.data.hf import HFSource
from unirae.data.prepare import prepare


def paint(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 6), (grey, grey, grey)).save(path)


@pytest.fixture
def images(tmp_path) -> Path:
    for i in range(12):
        paint(tmp_path / "images" / ("cat", "dog")[i % 2] / f"{i:02d}.png", 10 * i)
    return tmp_path / "images"


def greys(output: Path) -> dict[str, int]:
    rows = HFSource(split="train", data_dir=output, val_fraction=0)
    return {rows._rows[i]["image"]["path"]: rows[i].image.getpixel((0, 0))[0] for i in range(len(rows))}


def fingerprint(output: Path) -> str:
    return read_json(output / "train/state.json")["_fingerprint"]


def test_a_mended_file_is_taken(images, tmp_path, caplog):
    broken = images / "cat/broken.png"
    broken.write_bytes(b"no image")
    first = prepare(source=images, output=tmp_path / "out", val_fraction=0)
    assert (first["images"], first["unreadable_count"]) == ({"train": 12}, 1)
    paint(broken, 250)
    second = prepare(source=images, output=tmp_path / "out", val_fraction=0)
    assert (second["images"], second["unreadable_count"]) == ({"train": 13}, 0)
    assert greys(tmp_path / "out")["cat/broken.png"] == 250
    assert "1 file has changed since it was made: converting anew" in caplog.text
    assert {file.name for file in tmp_path.iterdir()} == {"images", "out"}


def test_contents_decide_not_times(images, tmp_path, monkeypatch):
    """A file written anew with its old time and size is noticed; one that was merely touched changes nothing."""
    output = tmp_path / "out"
    prepare(source=images, output=output, val_fraction=0)
    before, written = fingerprint(output), os.stat(output / "train/state.json").st_mtime_ns
    file = images / "cat/02.png"
    os.utime(file)
    prepare(source=images, output=output, val_fraction=0)
    assert os.stat(output / "train/state.json").st_mtime_ns == written
    monkeypatch.setattr("unirae.data.prepared_shards._read", None)  # noted: a third run reads nothing
    prepare(source=images, output=output, val_fraction=0)
    monkeypatch.undo()
    old = file.stat()
    size = len(file.read_bytes())
    Image.new("RGB", (6, 6), (23, 23, 23)).save(file)
    assert file.stat().st_size == size
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    prepare(source=images, output=output, val_fraction=0)
    assert greys(output)["cat/02.png"] == 23
    assert fingerprint(output) != before


def test_new_and_removed_files_and_another_class(images, tmp_path, caplog):
    output = tmp_path / "out"
    prepare(source=images, output=output, val_fraction=0, shard_images=5)
    paint(images / "owl/1.png", 99)
    (images / "cat/00.png").unlink()
    report = prepare(source=images, output=output, val_fraction=0, shard_images=5)
    assert "1 file is gone, 1 file is new" in caplog.text
    assert report["classes"] == ["cat", "dog", "owl"]
    assert greys(output) == {
        f"{c}/{i:02d}.png": 10 * i for i in range(1, 12) for c in [("cat", "dog")[i % 2]]
    } | {"owl/1.png": 99}
    (images / "owl").rename(images / "cow")
    assert prepare(source=images, output=output, val_fraction=0, shard_images=5)["classes"] == [
        "cat",
        "cow",
        "dog",
    ]


def test_the_fingerprint_is_of_the_contents(images, tmp_path):
    """Equal rows have equal fingerprints, whatever they were read from and however they are cut; others have not."""
    prepare(source=images, output=tmp_path / "a", val_fraction=0)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for file in sorted(images.rglob("*.png")):
            archive.add(file, arcname=file.relative_to(images))
    prepare(source=tmp_path / "x.tar", output=tmp_path / "b", val_fraction=0, shard_images=5)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    prepare(source=images, output=tmp_path / "flat", val_fraction=0, labels=False)
    paint(images / "dog/01.png", 7)
    prepare(source=images, output=tmp_path / "c", val_fraction=0)
    assert len({fingerprint(tmp_path / x) for x in ("a", "flat", "c")}) == 3


def test_an_output_of_something_else_stays(images, tmp_path):
    output = tmp_path / "out"
    prepare(source=images, output=output, val_fraction=0)
    kept = {file: file.read_bytes() for file in output.rglob("*.*")}
    other = tmp_path / "other"
    paint(other / "cat/1.png", 1)
    for options in (
        {"source": other, "val_fraction": 0},
        {"source": images, "val_fraction": 0, "labels": False},
        {"source": images, "val_fraction": 0, "shard_images": 3},
    ):
        with pytest.raises(DataError, match="exists and"):
            prepare(output=output, **options)
    report = read_json(output / "report.json")
    (output / "report.json").write_text(json.dumps({"plan_sha256": "0" * 64, "images": report["images"]}))
    with pytest.raises(DataError, match="earlier version, which did not record"):
        prepare(source=images, output=output, val_fraction=0)
    assert {file: file.read_bytes() for file in kept if file.name != "report.json"} == {
        file: content for file, content in kept.items() if file.name != "report.json"
    }


def test_the_same_files_elsewhere_are_the_same(images, tmp_path):
    prepare(source=images, output=tmp_path / "out", val_fraction=0)
    written = os.stat(tmp_path / "out/report.json").st_mtime_ns
    images.rename(tmp_path / "moved")
    prepare(source=tmp_path / "moved", output=tmp_path / "out", val_fraction=0)
    assert os.stat(tmp_path / "out/report.json").st_mtime_ns == written


def test_work_that_was_begun_on_other_contents(images, tmp_path):
    """After an interrupt, the shard of a changed file is made anew and no other."""
    options = {"source": images, "output": tmp_path / "out", "val_fraction": 0, "shard_images": 4}

    def stop(done: int, total: int) -> None:
        if done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(progress=stop, **options)
    work = tmp_path / ".out.partial/train"
    first, second = (os.stat(work / f"data-0000{i}-of-00003.arrow").st_mtime_ns for i in (0, 1))
    paint(images / "cat/00.png", 222)
    prepare(**options)
    done = tmp_path / "out/train"
    assert os.stat(done / "data-00000-of-00003.arrow").st_mtime_ns != first
    assert os.stat(done / "data-00001-of-00003.arrow").st_mtime_ns == second
    assert greys(tmp_path / "out")["cat/00.png"] == 222


def test_shards_that_were_cut_otherwise_are_removed(images, tmp_path):
    """Work begun on fewer files leaves nothing behind in the output."""
    options = {"source": images, "output": tmp_path / "out", "val_fraction": 0, "shard_images": 4}
    for i in range(10):
        paint(images / f"dog/more{i}.png", 100 + i)
    with pytest.raises(KeyboardInterrupt):
        prepare(progress=lambda done, _: done < 9 or (_ for _ in ()).throw(KeyboardInterrupt), **options)
    for i in range(10):
        (images / f"dog/more{i}.png").unlink()
    prepare(**options)
    assert len(greys(tmp_path / "out")) == 12
    assert len(list((tmp_path / "out/train").glob("*.arrow"))) == 3
    assert len(list((tmp_path / "out/inputs").glob("*.json"))) == 3


def test_a_changed_member_of_a_tar(tmp_path):
    def write(grey: int) -> None:
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            for name, value in (("a/1.png", 5), ("a/2.png", grey)):
                buffer = io.BytesIO()
                Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(buffer, "BMP")
                member = tarfile.TarInfo(name)
                member.size = buffer.tell()
                buffer.seek(0)
                archive.addfile(member, buffer)

    write(6)
    prepare(source=tmp_path / "x.tar", output=tmp_path / "out", val_fraction=0)
    before = fingerprint(tmp_path / "out")
    write(7)
    prepare(source=tmp_path / "x.tar", output=tmp_path / "out", val_fraction=0)
    assert greys(tmp_path / "out") == {"a/1.png": 5, "a/2.png": 7}
    assert fingerprint(tmp_path / "out") != before


def test_two_at_once(images, tmp_path):
    lock = tmp_path / ".out.lock"
    with locked(lock, busy="x"), pytest.raises(UserError, match=r"another process is writing .*out"):
        prepare(source=images, output=tmp_path / "out")
    assert not lock.exists()
    assert not (tmp_path / "out").exists()
    assert sum(prepare(source=images, output=tmp_path / "out")["images"].values()) == 12


def test_a_kill_while_one_output_takes_the_others_place(images, tmp_path):
    output = tmp_path / "out"
    prepare(source=images, output=output, val_fraction=0)
    output.rename(tmp_path / ".out.replaced")
    prepare(source=images, output=output, val_fraction=0)
    assert len(greys(output)) == 12
    assert {file.name for file in tmp_path.iterdir()} == {"images", "out"}


def test_the_report_says_all_that_was_left_out(tmp_path):
    root = tmp_path / "in"
    for i in range(120):
        paint(root / f"train/cat/{i}.png", i)
    paint(root / "val/cat/1.png", 1)
    paint(root / "test/1.png", 1)
    paint(root / "train/preview.png", 1)
    for name in ("val/cat/IMG_1.CR2", "val/cat/film.MOV", "notes.txt", "train/cat/@eaDir/1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"?")
    (root / "val/cat/gone.png").symlink_to("/nowhere/gone.png")
    (root / "val/cat/gone").symlink_to("/nowhere/gone")
    (root / "val/cat/all").symlink_to(root)
    report = prepare(source=root, output=tmp_path / "out")
    assert report["images"] == {"train": 120, "validation": 1}
    (unreadable,) = report["unreadable"]
    assert unreadable["path"] == "val/cat/gone.png"
    assert "No such file" in unreadable["reason"]
    assert report["left_out"] == {
        "files_by_kind": {"other files": 1, "raw photographs": 1, "videos": 1},
        "thumbnail_and_trash_folders": {"@eaDir": 1},
        "links_to_visited_folders": ["val/cat/all"],
        "links_that_lead_nowhere": ["val/cat/gone"],
        "names_that_lead_outside": [],
        "images_outside_of_folders": ["train/preview.png"],
        "images_in_other_folders": {"test": 1},
    }


def test_a_reader_that_is_installed_later_is_used(images, tmp_path, caplog, monkeypatch):
    calls = []

    def without_reader(content):
        calls.append(content)
        raise BadImageError("a picture that needs a reader")

    strange = images / "cat/strange.png"
    paint(strange, 250)
    content = strange.read_bytes()
    real = prepared_shards.read_rgb
    monkeypatch.setattr(
        prepared_shards, "read_rgb", lambda data: without_reader(data) if data == content else real(data)
    )
    for _ in range(2):  # nothing has changed at the second
        report = prepare(source=images, output=tmp_path / "out", val_fraction=0)
        assert (report["images"], report["unreadable_count"]) == ({"train": 12}, 1)
    assert len(calls) >= 2
    assert "converting anew" not in caplog.text
    monkeypatch.undo()
    report = prepare(source=images, output=tmp_path / "out", val_fraction=0)
    assert (report["images"], report["unreadable_count"]) == ({"train": 13}, 0)
    assert "1 file has become readable since it was made: converting anew" in caplog.text
    assert greys(tmp_path / "out")["cat/strange.png"] == 250


@pytest.mark.parametrize("readable", [0, 2])
def test_an_error_leaves_no_empty_bar(tmp_path, monkeypatch, readable):
    """On a terminal; once images were counted the bar stays."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    (tmp_path / "in").mkdir()
    for number in range(readable):
        Image.new("RGB", (4, 4)).save(tmp_path / f"in/{number}.png")
    options = prepare_data.Options(input=tmp_path / "in", output=tmp_path / "out")
    with pytest.raises(DataError) if not readable else nullcontext():
        prepare_data.convert(options)
    shown = terminal.getvalue()
    assert "images" in shown
    last = shown.rpartition("images ")[2]
    assert ("\x1b[1A\x1b[2K" in last) is (not readable)
