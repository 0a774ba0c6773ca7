"""Folders and archives as they are found: links, loops, trash, other formats, and names that are not UTF-8."""

import io
import json
import os
import socket
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from unirae.core.errors import DataError
from unirae.core.io import read_json, write_json
from unirae.data import file_kinds
from unirae.data.archive import open_images
from unirae.data.folder import FolderSource
from unirae.data.hf import HFSource
from unirae.data.listing import arrange, find_files, find_images
from unirae.data.prepare import prepare


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (len(path), 0, 0)).save(root / path)
    return root


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def no_packages(monkeypatch):
    monkeypatch.setattr(file_kinds, "find_spec", lambda name: None)
    yield
    file_kinds.register_readers.cache_clear()


def test_a_link_to_the_folder_itself(tmp_path, caplog):
    root = make(tmp_path / "in", "imagenet/cat/1.png", "imagenet/dog/2.png")
    (root / "imagenet/imagenet").symlink_to(root / "imagenet")
    (root / "imagenet/cat/up").symlink_to("..")
    (root / "imagenet/out").symlink_to(tmp_path)  # of which the folder is a part
    assert find_images(root) == ["imagenet/cat/1.png", "imagenet/dog/2.png"]
    assert "3 links to folders that are visited already (imagenet/cat/up, imagenet/imagenet" in caplog.text


def test_a_folder_is_visited_by_its_own_name(tmp_path):
    """Also where a link to it comes first in the alphabet; two links to one folder are one."""
    root = make(tmp_path / "in", "z/real/1.png")
    make(tmp_path, "elsewhere/2.png")
    (root / "a").symlink_to(root / "z/real")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    paths, left_out = find_files(root)
    assert paths == ["b/2.png", "z/real/1.png"]
    assert sorted(left_out.visited_links) == ["a", "c"]


def test_links_in_a_circle_and_to_nowhere(tmp_path):
    root = make(tmp_path, "cat/1.png", "cat/2.png")
    (root / "cat/x").symlink_to("y")
    (root / "cat/y").symlink_to("x")
    (root / "cat/gone.png").symlink_to("/nowhere/gone.png")
    paths, left_out = find_files(root)
    assert paths == ["cat/1.png", "cat/2.png", "cat/gone.png"]  # the last is unreadable, and counted as that
    assert sorted(left_out.dead_links) == ["cat/x", "cat/y"]


def test_pipes_and_sockets_are_not_opened(tmp_path, monkeypatch):
    root = make(tmp_path, "cat/1.png")
    os.mkfifo(root / "cat/pipe.png")
    monkeypatch.chdir(root / "cat")  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
    assert find_images(root) == ["cat/1.png"]


PROGRAMS = ["@eaDir", "#recycle", "$RECYCLE.BIN", ".Trash-1000", ".Trashes", ".thumbnails", "lost+found"]
PROGRAMS += [
    "__MACOSX",
    ".AppleDouble",
    ".ipynb_checkpoints",
    "System Volume Information",
    "Catalog Previews.lrdata",
]


@pytest.mark.parametrize("folder", PROGRAMS)
def test_thumbnails_and_trash_of_known_programs(tmp_path, folder):
    root = make(tmp_path, "cat/1.png", f"cat/{folder}/1.png", f"{folder}/2.png")
    paths, left_out = find_files(root)
    assert paths == ["cat/1.png"]
    assert left_out.program_folders == ({} if folder.startswith(".") else {folder: 2})
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(root / "cat", arcname="cat")
    with open_images(tmp_path / "x.tar") as files:
        assert files.paths == ["cat/1.png"]
        assert files.left_out.program_folders == ({} if folder.startswith(".") else {folder: 1})


def test_what_is_left_out_is_counted_by_kind(tmp_path, caplog, no_packages):
    root = make(tmp_path, *(f"cat/{i}.jpg" for i in range(10)))
    others = [
        "a.HEIC",
        "b.heic",
        "c.NEF",
        "d.jxl",
        "e.svg",
        "f.psd",
        "g.mov",
        "h.zip",
        "i.txt",
        "j",
        "Thumbs.db",
    ]
    for name in (*others, ".hidden", "k.exr"):
        (root / "cat" / name).write_bytes(b"?")
    assert len(FolderSource(split="train", data_dir=root)) == 9
    FolderSource(split="val", data_dir=root)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"{root}: left out 2 heic (read where pillow-heif is installed: pip install pillow-heif); 1 jxl (read where "
        "pillow-jxl-plugin is installed: pip install pillow-jxl-plugin); 1 raw photograph; 1 svg; 1 psd; 1 other "
        "picture; 1 video; 1 archive; 2 other files"
    ).replace(str(root), file_kinds.on_one_line(str(root)))
    report = prepare(source=root, output=tmp_path / "out")
    assert report["left_out"]["files_by_kind"]["heic"] == 2
    assert read_json(tmp_path / "out/report.json")["left_out"]["files_by_kind"] == {
        "archives": 1, "heic": 2, "jxl": 1, "other files": 2, "other pictures": 1, "psd": 1, "raw photographs": 1,
        "svg": 1, "videos": 1,
    }  # fmt: skip


def test_a_folder_of_nothing_but_other_formats(tmp_path, no_packages):
    (tmp_path / "a.heic").write_bytes(b"?")
    for call in (
        lambda: find_images(tmp_path),
        lambda: FolderSource(split="train", data_dir=tmp_path),
        lambda: prepare(source=tmp_path, output=tmp_path / "out"),
    ):
        with pytest.raises(
            DataError, match=r"no images that are read; it has 1 heic .*pip install pillow-heif"
        ):
            call()


def test_files_of_an_installed_package_are_taken(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    for i in range(4):
        (tmp_path / "in/cat").mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (16, 16), (60 * i, 0, 0))
        pillow_heif.from_pillow(picture).save(tmp_path / f"in/cat/IMG_{i}.HEIC", quality=95)
    assert len(FolderSource(split="train", data_dir=tmp_path / "in", val_fraction=0)) == 4
    assert prepare(source=tmp_path / "in", output=tmp_path / "out", val_fraction=0)["images"] == {"train": 4}
    row = HFSource(split="train", data_dir=tmp_path / "out", val_fraction=0)[3]
    assert abs(row.image.getpixel((8, 8))[0] - 180) <= 8


def member(
    archive: tarfile.TarFile, name: str, content: bytes = b"", *, kind=tarfile.REGTYPE, to: str = ""
) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, to
    archive.addfile(info, io.BytesIO(content))


def test_members_of_a_tar(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member(archive, "./cat/1.png", png(1))
        member(archive, "/cat/absolute.png", png(2))
        member(archive, "../evil.png", png(3))
        member(archive, "cat/../../evil.png", png(3))
        member(archive, "cat/1.png", png(4))  # the last of one name counts
        member(archive, "dog/../cat/2.png", png(5))
        member(archive, "cat/hard.png", kind=tarfile.LNKTYPE, to="cat/2.png")
        member(archive, "dog/soft.png", kind=tarfile.SYMTYPE, to="../cat/1.png")
        member(archive, "dog/gone.png", kind=tarfile.SYMTYPE, to="nowhere.png")
        member(archive, "dog/self.png", kind=tarfile.SYMTYPE, to="self.png")
        member(archive, "owl", kind=tarfile.SYMTYPE, to="cat")
        member(archive, "notes", kind=tarfile.SYMTYPE, to="gone")
        member(archive, "pipe.png", kind=tarfile.FIFOTYPE)
    with open_images(tmp_path / "x.tar") as files:
        dead = {"dog/gone.png", "dog/self.png"}
        for path in dead:
            with pytest.raises(OSError, match="which is not in the archive"):
                files.read(path)
        readable = {
            path: Image.open(io.BytesIO(files.read(path))).getpixel((0, 0))[0]
            for path in set(files.paths) - dead
        }
        assert files.left_out.outside == ["../evil.png", "cat/../../evil.png"]
        assert files.left_out.visited_links == ["owl"]
        assert files.left_out.dead_links == ["notes"]
        assert files.left_out.kinds == {"other files": 1}
    assert readable == {
        "cat/absolute.png": 2,
        "cat/1.png": 4,
        "cat/2.png": 5,
        "cat/hard.png": 5,
        "dog/soft.png": 4,
    }


not_on_macs = pytest.mark.skipif(sys.platform == "darwin", reason="its file systems hold UTF-8 names only")


@pytest.fixture
def odd_names(tmp_path) -> Path:
    """Two classes that differ in bytes that are no UTF-8 alone, and others that a program may stumble over."""
    folders = [b"caf\xe9", b"caf\xe8", "caf\u00e9".encode(), b"a,b", b'q"q', b"two\nlines", b"x" * 200]
    folders.append("\U0001f469\u200d\U0001f680".encode())
    for folder in folders:
        path = os.fsencode(tmp_path / "in") + b"/" + folder
        os.makedirs(path)
        for i in range(3):
            Path(os.fsdecode(path + b"/p\xff%d.png" % i)).write_bytes(png(i))
    return tmp_path / "in"


NAMES = [
    "caf\\xe9",
    "caf\\xe8",
    "caf\u00e9",
    "a,b",
    'q"q',
    "two\nlines",
    "x" * 200,
    "\U0001f469\u200d\U0001f680",
]


@not_on_macs
def test_names_that_are_not_utf8(odd_names, tmp_path, caplog):
    caplog.set_level("INFO")
    train, val = (FolderSource(split=split, data_dir=odd_names) for split in ("train", "val"))
    assert sorted(train.class_names) == sorted(NAMES)
    assert len(train) + len(val) == 24
    assert {train[i].label for i in range(len(train))} == set(range(8))
    names = [train.name_of(i) for i in range(len(train))]
    assert len(set(names)) == len(train)
    for text in (*names, *train.class_names, json.dumps(train.fingerprint, ensure_ascii=False), caplog.text):
        text.encode()
    assert len([r for r in caplog.records if "8 classes" in r.getMessage()]) == 1
    assert all("\n" not in r.getMessage() for r in caplog.records)


@not_on_macs
def test_prepared_names_that_are_not_utf8(odd_names, tmp_path):
    report = prepare(source=odd_names, output=tmp_path / "out", val_fraction=0)
    assert sorted(report["classes"]) == sorted(NAMES)
    source = HFSource(split="train", data_dir=tmp_path / "out", val_fraction=0)
    assert list(source.class_names) == report["classes"]
    assert len({row["image"]["path"] for row in source._rows}) == 24
    assert prepare(source=odd_names, output=tmp_path / "out", val_fraction=0) == report
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(odd_names, arcname="in")
    from_tar = prepare(source=tmp_path / "x.tar", output=tmp_path / "tar", val_fraction=0)
    assert sorted(from_tar["classes"]) == sorted(NAMES)


def test_two_folders_that_would_be_one_class():
    with pytest.raises(DataError, match=r"two folders would be the class 'caf\\xe9'"):
        arrange(["caf\udce9/1.png", "caf\\xe9/2.png"], val_fraction=0, where="here")


def test_surrogates_survive_json(tmp_path):
    content = {"path": "caf\udce9", "other": "caf\u00e9 \U0001f680"}
    assert read_json(write_json(tmp_path / "x.json", content)) == content
