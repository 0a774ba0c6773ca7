"""Headers of tars: the same members as the standard library's, with their places; and damage."""

import io
import os
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_shards import add, write_tar
from unirae.data.tar_members import (
    BLOCK,
    DamagedTarError,
    Member,
    TarReader,
    UnmarkedEndError,
    compression_of,
    members,
)

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def read(path, size=None) -> list[Member]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return list(members(TarReader(descriptor), path.stat().st_size if size is None else size))
    finally:
        os.close(descriptor)


def theirs(path) -> list[tuple[str, int, int]]:
    with tarfile.open(path) as tar:
        return [(m.name, m.offset_data, m.size) for m in tar if m.isfile()]


def places(found) -> list[tuple[str, int, int]]:
    return [(m.name, m.offset, m.size) for m in found if m.kind == "file"]


NAMES = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0/"), min_size=1, max_size=150
)


@settings(deadline=None, max_examples=60)
@given(
    stored=st.dictionaries(NAMES.map(lambda name: f"a/{name}"), st.binary(max_size=1500), max_size=8),
    kind=st.sampled_from(["gnu", "pax"]),
)
def test_members_are_those_of_the_standard_library(tmp_path_factory, stored, kind):
    path = write_tar(tmp_path_factory.mktemp("tar") / "a.tar", stored, format=FORMATS[kind])
    found = read(path)
    assert places(found) == theirs(path)
    content = path.read_bytes()
    assert [content[m.offset : m.offset + m.size] for m in found] == list(stored.values())


@pytest.mark.parametrize("kind", FORMATS)
def test_names_that_need_more_than_a_header_or_are_no_text(tmp_path, kind):
    names = [f"{'d' * 90}/{'f' * 80}.jpg", "caf\udce9.jpg", "ü.jpg"]
    if kind != "ustar":
        names += ["x" * 300 + ".jpg", f"{'p/' * 200}y.jpg"]
    path = write_tar(tmp_path / "a.tar", dict.fromkeys(names, b"abc"), format=FORMATS[kind])
    assert [m.name for m in read(path)] == names


def test_links_folders_devices_and_sparse_files_hold_no_pictures(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        add(tar, "folder", type=tarfile.DIRTYPE)
        add(tar, "a.jpg", b"1" * 700)
        add(tar, "hard.jpg", type=tarfile.LNKTYPE, linkname="a.jpg")
        add(tar, "soft.jpg", type=tarfile.SYMTYPE, linkname="a" * 200 + ".jpg")
        add(tar, "pipe", type=tarfile.FIFOTYPE)
        add(tar, "b.jpg", b"2")
    assert [(m.name, m.kind) for m in read(path)] == [
        ("a.jpg", "file"),
        ("hard.jpg", "link"),
        ("soft.jpg", "link"),
        ("pipe", "other"),
        ("b.jpg", "file"),
    ]


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_sparse_files_are_passed_over_whatever_their_map(tmp_path, form):
    with open(tmp_path / "holes.jpg", "wb") as file:
        for piece in range(60):  # more pieces than the maps of one header hold
            file.seek(piece * 2**20)
            file.write(b"x" * 4096)
    (tmp_path / "z.jpg").write_bytes(b"z")
    done = subprocess.run(
        ["tar", "--sparse", f"--format={form}", "-cf", "a.tar", "holes.jpg", "z.jpg"],
        cwd=tmp_path,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip("the system's tar writes no sparse files")
    found = read(tmp_path / "a.tar")
    assert [(m.name, m.kind) for m in found] == [("holes.jpg", "sparse"), ("z.jpg", "file")]
    assert (tmp_path / "a.tar").read_bytes()[found[1].offset : found[1].offset + 1] == b"z"


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_members_above_8_gb(tmp_path, kind):
    size = 9 * 2**30
    about = tarfile.TarInfo("large.jpg")
    about.size = size
    path = tmp_path / "a.tar"
    head = about.tobuf(FORMATS[kind])
    after = tarfile.TarInfo("b.jpg")
    after.size = 3
    with open(path, "wb") as file:  # its middle is a hole, which takes no place on the disk
        file.write(head)
        file.seek(len(head) + size)
        file.write(after.tobuf(FORMATS[kind]) + b"abc".ljust(BLOCK, b"\0") + bytes(2 * BLOCK))
    assert [(m.name, m.size) for m in read(path)] == [("large.jpg", size), ("b.jpg", 3)]


def test_tars_that_were_appended_to_each_other(tmp_path):
    parts = [write_tar(tmp_path / f"{name}.tar", {f"{name}.jpg": name * 600}) for name in "abc"]
    both = tmp_path / "all.tar"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert [m.name for m in read(both)] == ["a.jpg", "b.jpg", "c.jpg"]


@settings(deadline=None, max_examples=80)
@given(cut=st.integers(0, 9 * BLOCK))
def test_a_tar_that_is_cut_anywhere_gives_what_is_whole_and_says_so(tmp_path_factory, cut):
    whole = {"a.jpg": b"1" * 700, "b.jpg": b"2" * 100, "c.jpg": b"3" * 1024}
    path = write_tar(tmp_path_factory.mktemp("cut") / "a.tar", whole, format=tarfile.GNU_FORMAT)
    os.truncate(path, cut)
    data = {"a.jpg": (512, 1212), "b.jpg": (2048, 2148), "c.jpg": (3072, 4096)}  # from and up to which byte
    found, damage = read_until_damage(path)
    assert found == [name for name, (_, end) in data.items() if end <= cut]
    assert (damage is None) == (cut == 9 * BLOCK)  # with the first block of the mark of the end
    if damage is not None:
        inside = [name for name, (start, end) in data.items() if start <= cut < end]
        assert damage.member == (inside[0] if inside else None)
        between = cut > 0 and any(end <= cut <= -(-end // BLOCK) * BLOCK for _, end in data.values())
        assert isinstance(damage, UnmarkedEndError) == (between or cut > 8 * BLOCK)


def read_until_damage(path) -> tuple[list[str], DamagedTarError | None]:
    found: list[str] = []
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for member in members(TarReader(descriptor), path.stat().st_size):
            found.append(member.name)
    except DamagedTarError as damage:
        return found, damage
    finally:
        os.close(descriptor)
    return found, None


def test_damage_inside_is_told_by_its_place(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.jpg": b"1" * 100, "b.jpg": b"2"}, format=tarfile.GNU_FORMAT)
    content = bytearray(path.read_bytes())
    content[2 * BLOCK + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedTarError, match="damaged at byte 1,024, where no header is"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"x" * 5000])
def test_a_file_that_is_no_tar(tmp_path, content):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(DamagedTarError, match=r"it is empty|it is no tar|in the middle of a header"):
        read(path)


def test_an_empty_tar_is_whole(tmp_path):
    assert read(write_tar(tmp_path / "a.tar", {})) == []


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_flipped_bytes_never_hang_nor_break_the_reader(tmp_path_factory, data):
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a.jpg", "ü" * 120 + ".jpg", "c.txt"):
            add(tar, name, b"x" * 300)
    content = bytearray(stored.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("bits") / "a.tar"
    path.write_bytes(content)
    try:
        found = read(path)
    except DamagedTarError:
        return
    assert all(m.offset + m.size <= len(content) for m in found)


@pytest.mark.parametrize(("mode", "program"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_compressed_tars_are_told_by_their_first_bytes(tmp_path, mode, program):
    with tarfile.open(tmp_path / "a.tar", mode) as tar:
        add(tar, "a.jpg", b"1")
    assert compression_of((tmp_path / "a.tar").read_bytes()[:8]) == program
