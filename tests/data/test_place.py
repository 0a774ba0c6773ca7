"""Data that are not there are found at once, by one look."""

import os
from pathlib import Path

import pytest

from unirae.core.errors import DataError
from unirae.data.place import check_place


def test_what_is_there_is_taken_folder_file_and_link(tmp_path):
    (tmp_path / "data.parquet").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for there in (
        tmp_path,
        tmp_path / "data.parquet",
        str(tmp_path / "link"),
        "~",
        os.fsdecode(bytes(tmp_path)),
    ):
        check_place(there, may_be_on_hub=False)


def test_a_pattern_of_several_files_needs_their_folder(tmp_path):
    check_place(tmp_path / "shard-{000..041}.tar", may_be_on_hub=False)
    check_place(tmp_path / "{a,b}/0.tar", may_be_on_hub=False)
    with pytest.raises(DataError, match=r"nothing/shard-\{0\.\.1\}.tar: cannot open the data: No such file"):
        check_place(tmp_path / "nothing/shard-{0..1}.tar", may_be_on_hub=False)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("nothing", "No such file"),
        ("nothing/here", "No such file"),
        ("x" * 300, "File name too long"),
        ("dead", "No such file"),
        ("circle", "symbolic links"),
        ("zero\0byte", "null byte"),
        ("not-utf-8-\udce9", "not-utf-8-.*No such file"),
        (None, "no data folder is given"),
        ("  ", "no data folder is given"),
        ("~nobody-has-this-name/x", "home"),
    ],
)
def test_what_is_not_there_is_one_line(tmp_path, monkeypatch, place, why):
    monkeypatch.chdir(tmp_path)
    Path("dead").symlink_to("gone")
    Path("circle").symlink_to("circle")
    with pytest.raises(DataError, match=why) as caught:
        check_place(place, may_be_on_hub=False)
    str(caught.value).encode()
    assert "\n" not in str(caught.value)


def test_a_name_of_the_hub_is_left_to_the_hub_and_a_path_is_not():
    check_place("ILSVRC/imagenet-1k", may_be_on_hub=True)
    for path in ("/nosuch", "./nosuch/it", "../nosuch", "~/nosuch-folder", "a/b/c"):
        with pytest.raises(DataError, match="or a hub name"):
            check_place(path, may_be_on_hub=True)
