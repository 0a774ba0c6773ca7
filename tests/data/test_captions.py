"""Which caption a sample shows, and pictures without captions."""

import logging
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unirae.core.errors import ConfigError, DataError
from unirae.data.captions import Captioned, drawn_caption
from unirae.data.dataset import ImageDataset
from unirae.data.emoji import EmojiSource
from unirae.data.sample_key import SampleKey
from unirae.data.source import EncodedSource, Sample, Source
from unirae.data.transforms import AdmCenterCrop


class Told(Source):
    """Pictures whose grey is their number, with the given captions."""

    name = "told"
    class_names = ("a", "b")

    def __init__(self, captions, weights=None):
        self.captions, self.caption_weights = captions, weights or (1.0,) * len(captions[0])
        self.fingerprint = {"source": self.name, "count": len(captions)}

    def __len__(self):
        return len(self.captions)

    def __getitem__(self, index):
        return Sample(Image.new("RGB", (8, 8), (index, index, index)), index % 2)

    def captions_of(self, index):
        return self.captions[index]

    def name_of(self, index):
        return f"{index}.png"


class Encoded(Told):
    """Told, with files that can be decoded at a smaller size."""

    def reduced(self, index, at_least):
        return Sample(Image.new("RGB", at_least, (index, 99, 99)), index % 2)


def drawn(source, count, index=0, seed=0):
    return [drawn_caption(source, index, seed=seed, epoch=epoch) for epoch in range(count)]


@settings(max_examples=15, deadline=None)
@given(weights=st.lists(st.floats(0.05, 1), min_size=2, max_size=4), seed=st.integers(0, 2**32 - 1))
def test_captions_are_drawn_in_proportion_to_their_weights(weights, seed):
    shares = [weight / sum(weights) for weight in weights]
    names = tuple("abcd"[: len(weights)])
    found = drawn(Told([names], tuple(shares)), 2000, seed=seed)
    for name, share in zip(names, shares, strict=True):
        spread = (share * (1 - share) / 2000) ** 0.5
        assert abs(found.count(name) / 2000 - share) < 5 * spread


def test_a_draw_is_a_function_of_seed_epoch_and_picture():
    source = Told([("a", "b", "c")] * 50)
    first = [drawn_caption(source, i, seed=3, epoch=2) for i in range(50)]
    assert first == [drawn_caption(source, i, seed=3, epoch=2) for i in range(50)]
    assert set(first) == {"a", "b", "c"}
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 1}):
        assert first != [drawn_caption(source, i, **other) for i in range(50)]


def test_missing_captions_are_never_drawn():
    source = Told([("", "b", "c"), ("", "b", ""), ("", "", "")], (0.98, 0.01, 0.01))
    found = drawn(source, 400)
    assert set(found) == {"b", "c"}
    assert 150 < found.count("b") < 250
    assert set(drawn(source, 20, index=1)) == {"b"}
    assert set(drawn(source, 20, index=2)) == {""}


def test_a_picture_may_have_weights_of_its_own():
    source = Told([("a", "b")], (0.5, 0.5))
    source.caption_weights_of = lambda index: (0.0, 1.0)
    assert set(drawn(source, 50)) == {"b"}


def test_a_source_without_captions_has_none():
    class Plain(Told):
        caption_weights_of, captions_of = Source.caption_weights_of, Source.captions_of

    source = Plain([()], ())
    assert source.captions_of(0) == source.caption_weights_of(0) == ()
    assert drawn_caption(source, 0, seed=0, epoch=0) == ""


SOME = [("a",), ("",), ("c",), ("d",), ("",)]


def test_pictures_without_captions_stand_for_the_null_prompt(caplog):
    source = Captioned(Told(SOME), missing="null_prompt")
    assert "told: 2 of 5 pictures have no caption and stand for the null prompt" in caplog.text
    assert [source.captions_of(i) for i in range(5)] == SOME
    assert [source[i].image.getpixel((0, 0))[0] for i in range(len(source))] == [0, 1, 2, 3, 4]
    assert source.fingerprint == source.content() == {"source": "told", "count": 5}


def test_pictures_without_captions_are_left_out(caplog):
    source = Captioned(Told(SOME), missing="leave_out")
    assert "told: 2 of 5 pictures have no caption and are left out" in caplog.text
    assert [source.captions_of(i) for i in range(len(source))] == [("a",), ("c",), ("d",)]
    assert [source[i].image.getpixel((0, 0))[0] for i in range(3)] == [0, 2, 3]
    assert [source[i].label for i in range(3)] == [0, 0, 1]
    assert [source.name_of(i) for i in range(3)] == ["0.png", "2.png", "3.png"]
    assert (source.num_classes, source.caption_weights_of(2)) == (2, (1.0,))
    assert pickle.loads(pickle.dumps(source.content())) == source.fingerprint


def test_what_is_left_out_is_part_of_the_identity():
    """Equal counts are not enough: kept latents go by the numbers of pictures."""
    first, other = (Captioned(Told(c), missing="leave_out") for c in (SOME, [*SOME[::-1]]))
    assert first.content()["captioned_alone"] == other.content()["captioned_alone"] == 3
    assert first.content() != other.content()
    assert first.fingerprint != other.fingerprint


def test_nothing_is_said_where_every_picture_has_a_caption(caplog):
    for missing in ("leave_out", "null_prompt"):
        source = Captioned(Told(SOME[2:4]), missing=missing)
        assert len(source) == 2
        assert source.content() == {"source": "told", "count": 2}
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_captions_that_are_not_there_are_an_error():
    with pytest.raises(DataError, match=r"told: none of the 2 pictures .* has a caption.*docs/data\.md"):
        Captioned(Told([("",), ("",)]), missing="null_prompt")
    with pytest.raises(ConfigError, match="missing_captions='drop' is unknown; use 'null_prompt' or"):
        Captioned(Told(SOME), missing="drop")


@pytest.mark.parametrize("missing", ["null_prompt", "leave_out"])
@pytest.mark.parametrize("kind", [Told, Encoded])
@pytest.mark.parametrize("fast_decode", [False, True])
def test_samples_are_decoded_as_by_the_source_itself(kind, fast_decode, missing):
    plain = kind(SOME)
    source = Captioned(plain, missing=missing)
    assert isinstance(plain, EncodedSource) == (kind is Encoded)
    told, alone = (
        ImageDataset(source=s, transform=AdmCenterCrop(size=4), fast_decode=fast_decode, captions=s is source)
        for s in (source, plain)
    )
    of = range(5) if missing == "null_prompt" else (0, 2, 3)
    for shown, number in enumerate(of):
        sample, expected = told[shown], alone[number]
        assert sample["image"].equal(expected["image"])
        assert int(sample["image"][1, 0, 0]) == (99 if fast_decode and kind is Encoded else number)
        assert sample["label"] == expected["label"]
        assert sample["caption"] == SOME[number][0]
        assert "caption" not in expected


def test_a_sample_has_the_caption_of_the_picture_shown():
    class Broken(Told):
        def __getitem__(self, index):
            from unirae.data.decode import BadImageError

            if index == 1:
                raise BadImageError("broken")
            return super().__getitem__(index)

    data = ImageDataset(
        source=Broken([("a",), ("b",), ("c",)]), transform=AdmCenterCrop(size=4), captions=True
    )
    assert (data[1]["index"], data[1]["caption"]) == (2, "c")


def test_a_sample_has_another_caption_in_another_epoch():
    data = ImageDataset(source=Told([("a", "b")] * 9), transform=AdmCenterCrop(size=4), captions=True, seed=5)
    for epoch in range(3):
        found = [data[SampleKey(i, epoch)]["caption"] for i in range(9)]
        assert found == [drawn_caption(data.source, i, seed=5, epoch=epoch) for i in range(9)]
    assert {data[SampleKey(0, epoch)]["caption"] for epoch in range(20)} == {"a", "b"}


def test_emoji_have_their_names():
    source = Captioned(EmojiSource(split="val"), missing="leave_out")
    assert len(source) == 185
    assert all(texts[0] and len(texts) == 1 for texts in map(source.captions_of, range(185)))
