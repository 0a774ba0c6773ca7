"""prepare_data and TarShardsSource: tar shards hold what the folder held, interrupted and not."""

import json
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from unirae.app import prepare_data
from unirae.core.errors import DataError, UserError
from unirae.core.io import read_json
from unirae.data.hf import HFSource
from unirae.data.prepare import prepare
from unirae.data.tar_shards import TarShardsSource

CAPTION = "ein grüner Frosch"


@pytest.fixture
def images(tmp_path) -> Path:
    """Ten pictures of two classes in two formats, two of them with a caption, and a broken file."""
    root = tmp_path / "images"
    for i in range(10):
        path = root / f"{'ab'[i % 2]}/{i}.{'JPG' if i % 3 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), (i * 20, 0, 0)).save(path, "JPEG" if i % 3 else "PNG")
    (root / "a/0.txt").write_text(CAPTION)
    (root / "b/3.txt").write_text("two\nlines")
    (root / "a/broken.png").write_bytes(b"not an image")
    return root


def shown(source) -> list[tuple[bytes, str, tuple[str, ...]]]:
    found = (
        (source[i].image.tobytes(), source.class_names[source[i].label], source.captions_of(i))
        for i in range(len(source))
    )
    return sorted(found)


def both(kind, output):
    return {split: kind(split=split, data_dir=output) for split in ("train", "val")}


def test_tars_hold_what_the_hugging_face_format_holds(images, tmp_path):
    options = {"source": images, "val_fraction": 0.3, "shard_images": 3}
    tars = prepare(output=tmp_path / "tars", format="tar", **options)
    rows = prepare(output=tmp_path / "rows", **options)
    found, expected = both(TarShardsSource, tmp_path / "tars"), both(HFSource, tmp_path / "rows")
    for split in ("train", "val"):
        assert shown(found[split]) == shown(expected[split])
        assert found[split].class_names == ("a", "b")
        assert found[split].caption_weights == (1.0,)
    assert tars["images"] == {"train": len(found["train"]), "val": len(found["val"])}
    assert {key: tars[key] for key in ("classes", "unreadable", "copies")} == {
        key: rows[key] for key in ("classes", "unreadable", "copies")
    }
    assert tars["options"] == {**rows["options"], "format": "tar"}
    assert not list(tmp_path.glob(".*"))


def test_members_are_those_of_webdataset(images, tmp_path):
    prepare(source=images, output=tmp_path / "tars", format="tar", val_fraction=0)
    (tar,) = (tmp_path / "tars").rglob("*.tar")
    assert tar.relative_to(tmp_path / "tars") == Path("train/00000.tar")
    with tarfile.open(tar) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    numbers = [f"{i:09d}" for i in range(11)]
    files = sorted(path for path in images.rglob("*.*") if path.suffix != ".txt")
    stored = {n: file for n, file in zip(numbers, files, strict=True) if file.stem != "broken"}
    assert set(members) == {
        *(f"{n}{file.suffix.lower()}" for n, file in stored.items()),
        *(f"{n}.cls" for n in stored),
        *(f"{n}.txt" for n, file in stored.items() if file.with_suffix(".txt").exists()),
    }
    assert all(members[f"{n}{file.suffix.lower()}"] == file.read_bytes() for n, file in stored.items())
    assert [int(members[f"{n}.cls"]) for n in stored] == [0] * 5 + [1] * 5
    assert members["000000000.txt"].decode() == CAPTION
    assert read_json(tmp_path / "tars/classes.json") == ["a", "b"]


def test_several_columns_of_captions_are_keys_of_json(tmp_path):
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    lines = [
        {"file_name": "0.png", "text": "one", "prompt": "two"},
        {"file_name": "1.png", "text": ["x", "y"]},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    prepare(source=tmp_path, output=tmp_path / "out", format="tar", val_fraction=0)
    source = TarShardsSource(
        split="train", data_dir=tmp_path / "out", val_fraction=0, caption_column={"text": 1, "prompt": 1}
    )
    assert [source.captions_of(i) for i in range(3)] == [("one", "", "two"), ("x", "y", ""), ("", "", "")]


def test_a_table_and_files_of_one_picture_are_both_read_again(tmp_path):
    """The column that stands for NAME.txt is then a key of the JSON member."""
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\n0.png,of the table\n2.png,also\n")
    (tmp_path / "0.txt").write_text("of the file")
    (tmp_path / "1.txt").write_text("alone")
    options = {"source": tmp_path, "val_fraction": 0}
    report = prepare(output=tmp_path / "tars", format="tar", **options)
    assert report["captions"] == {"columns": ["text", "txt"], "missing": {"train": 0}}
    prepare(output=tmp_path / "rows", **options)
    for column, expected in (
        ({"text": 1, "txt": 1}, [("of the table", "of the file"), ("", "alone"), ("also", "")]),
        ("txt", [("of the file",), ("alone",), ("",)]),
        ("text", [("of the table",), ("",), ("also",)]),
    ):
        for kind, output in ((TarShardsSource, "tars"), (HFSource, "rows")):
            source = kind(split="train", data_dir=tmp_path / output, val_fraction=0, caption_column=column)
            assert [source.captions_of(i) for i in range(3)] == expected, (kind, column)


def test_an_interrupted_run_continues_to_the_same_bytes(images, tmp_path):
    options = {"source": images, "shard_images": 2, "val_fraction": 0.2, "format": "tar", "num_workers": 1}

    def stop(done: int, total: int) -> None:
        if done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(output=tmp_path / "out", progress=stop, **options)
    assert not (tmp_path / "out").exists()
    finished = {f: f.stat().st_mtime_ns for f in (tmp_path / ".out.partial").rglob("*.tar")}
    assert len(finished) == 2
    with pytest.raises(DataError, match="was begun with other files or options"):
        prepare(output=tmp_path / "out", **{**options, "format": "hf"})
    prepare(output=tmp_path / "out", **options)
    for file, written in finished.items():
        assert (tmp_path / "out" / file.relative_to(tmp_path / ".out.partial")).stat().st_mtime_ns == written
    prepare(output=tmp_path / "whole", **options)
    files = [
        {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*.*")}
        for folder in (tmp_path / "out", tmp_path / "whole")
    ]
    assert files[0] == files[1]
    assert [f.name for f in sorted((tmp_path / "out").rglob("*.tar"))] == [
        *(f"{i:05d}.tar" for i in range(5)),
        "00000.tar",
    ]


def test_a_changed_caption_makes_the_tars_anew_and_another_format_is_refused(images, tmp_path, caplog):
    options = {"source": images, "output": tmp_path / "out", "val_fraction": 0}
    prepare(format="tar", **options)
    before = (tmp_path / "out/report.json").stat().st_ino
    prepare(format="tar", **options)
    assert (tmp_path / "out/report.json").stat().st_ino == before
    (images / "a/0.txt").write_text("another")
    prepare(format="tar", **options)
    assert "1 file has other captions since it was made: converting anew" in caplog.text
    found = TarShardsSource(split="train", data_dir=tmp_path / "out", val_fraction=0)
    assert ("another",) in [found.captions_of(i) for i in range(len(found))]
    with pytest.raises(DataError, match="exists and is not the result of this conversion"):
        prepare(**options)


def test_a_full_disk_leaves_no_output(images, tmp_path, monkeypatch):
    def full(tar, name, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unirae.data.prepared_tar._add", full)
    with pytest.raises(UserError, match="No space left"):
        prepare(source=images, output=tmp_path / "out", format="tar")
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / ".out.partial").rglob("*.tar"))


@pytest.mark.parametrize("content", ['["a"]', '["a", "a"]', '{"0": "a"}', "no json", "[1, 2]"])
def test_names_of_classes_that_do_not_fit_are_not_used(images, tmp_path, content, caplog):
    prepare(source=images, output=tmp_path / "out", format="tar", val_fraction=0.3)
    (tmp_path / "out/classes.json").write_text(content)
    assert TarShardsSource(split="train", data_dir=tmp_path / "out").class_names == ("0", "1")
    assert "classes.json" in caplog.text


def test_the_command(images, tmp_path, monkeypatch, capsys):
    words = ["--input", str(images), "--output", str(tmp_path / "out"), "--val_fraction", "0.3", "--format"]
    monkeypatch.setattr(sys, "argv", ["prepare_data.py", *words, "tar"])
    assert prepare_data.main() == 0
    assert f"train on it with: data=tar_shards data.data_dir={tmp_path}/out" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["prepare_data.py", *words, "zip"])
    with pytest.raises(SystemExit, match="2"):
        prepare_data.main()
    assert "--format zip: give hf or tar" in capsys.readouterr().err
