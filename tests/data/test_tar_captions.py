"""TarShardsSource: captions from members of text and keys of JSON."""

import json

import pytest

from tiny_shards import picture, sample_members, write_tar
from unirae.core.errors import ConfigError, DataError
from unirae.data.captions import Captioned
from unirae.data.tar_shards import TarShardsSource


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def whole(where, **options) -> TarShardsSource:
    return TarShardsSource(split="train", data_dir=where, val_fraction=0, **options)


def mixed(tmp_path):
    return write_tar(
        tmp_path / "a.tar",
        {
            **{f"{i}.png": picture(i) for i in range(4)},
            "0.txt": "\ufeffby hand \r\n",
            "0.json": json.dumps({"caption": "by machine", "alt": ["one", " ", "two"]}),
            "1.json": json.dumps({"prompt": "a prompt", "alt": "three"}),
            "2.json": json.dumps({"caption": None, "alt": 7}),
            "3.txt": "  ",
        },
    )


def test_captions_that_are_found(tmp_path):
    source = whole(mixed(tmp_path))
    assert [source.captions_of(i) for i in range(4)] == [("by hand",), ("a prompt",), ("",), ("",)]
    assert len(Captioned(source, missing="leave_out")) == 2


def test_columns_by_name_and_weight(tmp_path):
    mixed(tmp_path)
    source = whole(tmp_path, caption_column={"txt": 3, "alt": 1})
    assert source.captions_of(0) == ("by hand", "one", "two")
    assert source.caption_weights == (0.75, 0.125, 0.125)
    assert source.captions_of(1) == ("", "three", "")
    assert source.caption_weights_of(1) == (0.75, 0.25, 0.125)
    assert whole(tmp_path, caption_column="alt").captions_of(1) == ("three", "")
    assert whole(tmp_path).captions_of(0) == ("by hand",)  # each choice has an index of its own


def test_the_column_txt_is_the_member_before_the_key(tmp_path):
    members = {f"{i}.png": picture(i) for i in range(3)} | {"0.txt": "member", "2.txt": " "}
    keys = {f"{i}.json": json.dumps({"txt": f"key {i}"}) for i in range(3)}
    source = whole(write_tar(tmp_path / "a.tar", {**members, **keys}), caption_column="txt")
    assert [source.captions_of(i) for i in range(3)] == [("member",), ("key 1",), ("key 2",)]


def test_a_column_that_nothing_has_and_weights_that_cannot_be(tmp_path):
    mixed(tmp_path)
    with pytest.raises(DataError, match=r"no sample has a caption 'titel'.*change caption_column"):
        _ = whole(tmp_path, caption_column="titel").caption_weights
    with pytest.raises(ConfigError, match=r"caption_column=\{'txt': 0\}"):
        whole(tmp_path, caption_column={"txt": 0})


def test_a_split_may_lack_the_captions_of_the_other(tmp_path):
    write_tar(tmp_path / "train-0.tar", sample_members(range(3)))
    write_tar(tmp_path / "val-0.tar", sample_members(range(3), captions=False))
    for column in (None, "txt"):
        train, val = (
            TarShardsSource(split=split, data_dir=tmp_path, caption_column=column)
            for split in ("train", "val")
        )
        assert train.caption_weights == val.caption_weights == (1.0,)
        assert (train.captions_of(1), val.captions_of(1)) == (("grey 1",), ("",))


def test_without_captions_there_are_none(tmp_path):
    source = whole(write_tar(tmp_path / "a.tar", sample_members(range(3), captions=False)))
    assert (source.caption_weights, source.captions_of(0)) == ((), ())
