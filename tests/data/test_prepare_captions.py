"""prepare_data and captions: what it carries over, counts and notices."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from unirae.app import prepare_data
from unirae.app.shell.argument_names import PREPARING
from unirae.core.arguments import called
from unirae.core.errors import ConfigError, DataError
from unirae.core.io import read_json
from unirae.data.captions import Captioned
from unirae.data.hf import HFSource
from unirae.data.prepare import prepare


@pytest.fixture
def images(tmp_path) -> Path:
    root = tmp_path / "images"
    for i in range(12):
        path = root / ("cat", "dog")[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 6), (10 * i, 0, 0)).save(path)
    (root / "notes.txt").write_text("no picture's")
    return root


def txt(images: Path, numbers) -> None:
    for i in numbers:
        (images / ("cat", "dog")[i % 2] / f"{i:02d}.txt").write_text(f" number {i}\r\n")


def table(images: Path, *columns: str, **values) -> None:
    rows = [
        {"file_name": f"{('cat', 'dog')[i % 2]}/{i:02d}.png", **{c: f"{c} {i}" for c in columns}, **values}
        for i in range(12)
    ]
    (images / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def opened(output: Path, **options) -> HFSource:
    return HFSource(split="train", data_dir=output, val_fraction=0, **options)


def captions(output: Path, **options) -> dict[int, tuple[str, ...]]:
    source = opened(output, **options)
    return {source[i].image.getpixel((0, 0))[0] // 10: source.captions_of(i) for i in range(len(source))}


def fingerprint(output: Path) -> str:
    return read_json(output / "train/state.json")["_fingerprint"]


def tar_of(folder: Path, name: str) -> Path:
    with tarfile.open(folder.with_name(name), "w:gz" if name.endswith("gz") else "w") as archive:
        archive.add(folder, arcname=".")
    return folder.with_name(name)


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz"])
def test_files_beside_the_pictures(images, tmp_path, kind):
    txt(images, range(10))
    source = images if kind == "folder" else tar_of(images, f"images.{kind}")
    report = prepare(source=source, output=tmp_path / "out", val_fraction=0, shard_images=5)
    assert captions(tmp_path / "out") == {i: (f"number {i}" if i < 10 else "",) for i in range(12)}
    assert report["captions"] == {"columns": ["text"], "missing": {"train": 2}}
    assert report["left_out"]["files_by_kind"] == {"other files": 1}  # the notes
    assert read_json(tmp_path / "out/report.json") == report
    assert len(Captioned(opened(tmp_path / "out"), missing="leave_out")) == 10


@pytest.mark.parametrize("tar", [False, True])
def test_one_column_of_a_table_is_called_text(images, tmp_path, tar):
    table(images, "prompt", "size")
    source = tar_of(images, "x.tar") if tar else images
    report = prepare(source=source, output=tmp_path / "out", val_fraction=0.25)
    assert report["captions"] == {"columns": ["text"], "missing": {"train": 0, "validation": 0}}
    found = captions(tmp_path / "out")
    assert len(found) == 9
    assert all(texts == (f"prompt {i}",) for i, texts in found.items())


def test_several_columns_keep_their_names(images, tmp_path):
    table(images, "text", "caption", long=["a", "b"])
    txt(images, [3])
    report = prepare(source=images, output=tmp_path / "found", val_fraction=0)
    assert report["captions"]["columns"] == ["text", "caption", "txt"]
    assert captions(tmp_path / "found", caption_column={"txt": 1, "caption": 1})[3] == (
        "number 3",
        "caption 3",
    )
    with pytest.raises(DataError, match=r"several columns \(text, caption, txt\)"):
        captions(tmp_path / "found")
    prepare(source=images, output=tmp_path / "named", val_fraction=0, caption_columns=["long", "text"])
    assert captions(tmp_path / "named", caption_column={"long": 1, "text": 1})[5] == ("a", "b", "text 5")
    assert "caption" not in opened(tmp_path / "named")._all_columns.column_names


def test_files_that_all_hold_captions_are_no_kind_that_was_left_out(images, tmp_path):
    (images / "notes.txt").unlink()
    for number, wanted in enumerate((None, [], ["txt"])):
        txt(images, [0, 1] if wanted != [] else [])
        report = prepare(source=images, output=tmp_path / str(number), val_fraction=0, caption_columns=wanted)
        left_out = {} if wanted != [] else {"other files": 2}
        assert report["left_out"]["files_by_kind"] == left_out


def test_captions_that_are_not_wanted(images, tmp_path):
    (images / "metadata.jsonl").write_text("broken")
    said = r"metadata\.jsonl, line 1: not JSON .* each line; or leave captions out: --caption_columns none$"
    with called(PREPARING), pytest.raises(DataError, match=said):
        prepare(source=images, output=tmp_path / "out")
    with called(PREPARING), pytest.raises(DataError, match=r"give one object for each line$"):
        prepare(
            source=images, output=tmp_path / "out", caption_columns=["text"]
        )  # who asked needs no such advice
    report = prepare(source=images, output=tmp_path / "out", val_fraction=0, caption_columns=[])
    assert report["captions"] == {"columns": [], "missing": {}}
    assert opened(tmp_path / "out").caption_weights == ()
    table(images, "label", "text")
    with pytest.raises(
        ConfigError, match=r"caption_column=label,text: the output has a column 'label' of its own"
    ):
        prepare(source=images, output=tmp_path / "other", caption_columns=["label", "text"])
    for name in ("labels", "cls", "class", "fine_label"):
        table(images, name, "text")
        with pytest.raises(ConfigError, match=f"under '{name}' in the output would be read as labels; take"):
            prepare(source=images, output=tmp_path / "other", caption_columns=[name, "text"], labels=False)
    report = prepare(source=images, output=tmp_path / "one", labels=False, caption_columns=["fine_label"])
    assert report["captions"]["columns"] == ["text"], "alone it has no name of its own"
    with called(PREPARING), pytest.raises(DataError, match="choose another --caption_columns"):
        prepare(source=images, output=tmp_path / "other", caption_columns=["nope"])


def test_files_of_something_else_are_no_captions(images, tmp_path, caplog):
    (images / "metadata.csv").write_text("id,size\n1,2,3\n")
    (images / "cat/00.json").write_text('{"shapes": [1, 2]}')
    (images / "cat/02.json").write_bytes(b"\xff" * (2**20 + 2))
    (images / "cat/04.txt").write_text("\n")
    report = prepare(source=images, output=tmp_path / "out", val_fraction=0)
    assert report["captions"] == {"columns": [], "missing": {}}
    assert report["left_out"]["files_by_kind"] == {"other files": 5}
    assert "count as missing" not in caplog.text


def test_without_captions_nothing_changes(images, tmp_path):
    """Fingerprints are as before captions were known, and there is no column."""
    report = prepare(source=images, output=tmp_path / "out", val_fraction=0)
    assert report["captions"] == {"columns": [], "missing": {}}
    assert list(read_json(tmp_path / "out/train/dataset_info.json")["features"]) == ["image", "label"]
    before = fingerprint(tmp_path / "out")
    txt(images, [1])
    prepare(source=images, output=tmp_path / "none", val_fraction=0, caption_columns=[])
    assert fingerprint(tmp_path / "none") == before
    prepare(source=images, output=tmp_path / "with", val_fraction=0)
    assert fingerprint(tmp_path / "with") != before


def test_changed_captions_are_noticed(images, tmp_path, caplog):
    output = tmp_path / "out"
    prepare(source=images, output=output, val_fraction=0, shard_images=4)
    txt(images, [2, 5])
    prepare(source=images, output=output, val_fraction=0, shard_images=4)
    assert "2 files have other captions since it was made: converting anew" in caplog.text
    assert captions(output)[5] == ("number 5",)
    before, written = fingerprint(output), (output / "report.json").stat().st_mtime_ns
    (images / "dog/05.txt").write_text("number 5\n\n")  # the same caption
    prepare(source=images, output=output, val_fraction=0, shard_images=4)
    assert (output / "report.json").stat().st_mtime_ns == written
    (images / "dog/05.txt").write_text("another")
    prepare(source=images, output=output, val_fraction=0, shard_images=4)
    assert "1 file has other captions since it was made" in caplog.text
    assert captions(output)[5] == ("another",)
    assert fingerprint(output) != before
    (images / "dog/05.txt").unlink()
    (images / "cat/02.txt").unlink()
    prepare(source=images, output=output, val_fraction=0, shard_images=4)
    assert opened(output).caption_weights == ()


def test_an_output_of_before_is_current_unless_there_are_captions(images, tmp_path, caplog, monkeypatch):
    """Its records know no captions."""
    monkeypatch.setattr(prepare_data.cli, "configure_logging", lambda: None)
    output = tmp_path / "out"
    prepare(source=images, output=output, val_fraction=0)
    for path in (output / "inputs").glob("*.json"):
        record = read_json(path)
        del record["caption_columns"]
        for file in record["files"]:
            del file["captions_sha256"]
        path.write_text(json.dumps(record))
    report = read_json(output / "report.json")
    del report["captions"]
    (output / "report.json").write_text(json.dumps(report))
    options = prepare_data.Options(input=images, output=output, val_fraction=0)
    assert prepare_data.convert(options) == report
    txt(images, [1])
    assert prepare_data.convert(options)["captions"]["missing"] == {"train": 11}
    assert "1 file has other captions since it was made" in caplog.text
    assert "captions: text; 11 images have none" in caplog.text


def test_an_interrupted_conversion_remakes_shards_of_other_captions(images, tmp_path):
    txt(images, [0, 1])
    options = {"source": images, "output": tmp_path / "out", "val_fraction": 0, "shard_images": 4}

    def stop(done: int, total: int) -> None:
        if done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(progress=stop, **options)
    work = tmp_path / ".out.partial/train"
    first, second = ((work / f"data-0000{i}-of-00003.arrow").stat().st_mtime_ns for i in (0, 1))
    (images / "cat/00.txt").write_text("changed")
    prepare(**options)
    done = tmp_path / "out/train"
    assert (done / "data-00000-of-00003.arrow").stat().st_mtime_ns != first
    assert (done / "data-00001-of-00003.arrow").stat().st_mtime_ns == second
    assert captions(tmp_path / "out")[0] == ("changed",)


def test_a_tar_of_tars_and_odd_members(tmp_path):
    """Of members of one name the last counts; a link to a caption is read; one to nowhere is counted."""

    def add(archive, name, content=b"", **options):
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for key, value in options.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(content))

    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "PNG")
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        for name in ("1.png", "2.png", "3.png"):
            add(archive, name, picture.getvalue())
        add(archive, "1.txt", b"old")
        add(archive, "1.txt", "caf\u00e9".encode())
        add(archive, "2.txt", type=tarfile.SYMTYPE, linkname="1.txt")
        add(archive, "3.txt", type=tarfile.SYMTYPE, linkname="gone.txt")
        add(archive, "metadata.csv", b"file_name,text\n1.png,\ngone.png,x\n")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "n01.tar", inner.getvalue())
    report = prepare(source=tmp_path / "x.tar", output=tmp_path / "out", val_fraction=0)
    assert report["captions"] == {"columns": ["text"], "missing": {"train": 1}}
    source = opened(tmp_path / "out")
    assert [source.captions_of(i) for i in range(3)] == [("caf\u00e9",), ("caf\u00e9",), ("",)]


@pytest.mark.parametrize(
    ("given", "columns"),
    [(None, None), ("none", []), ("text", ["text"]), ("text, txt", ["text", "txt"])],
)
def test_the_option(given, columns):
    assert prepare_data._columns(given) == columns


@pytest.mark.parametrize("given", ["", ",", "a,,b"])
def test_an_option_that_names_nothing(given):
    with pytest.raises(ConfigError, match="--caption_columns"):
        prepare_data._columns(given)
