"""Prompts for clip_score: the captions of a source, or the lines of a file; every doubt is an error in one line."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from unirae.app.inputs.clip import StoredPromptOptions, clip_sources
from unirae.core.errors import ConfigError, DataError
from unirae.data.source import Sample, Source
from unirae.data.stored import StoredImages


class Pictures(Source):
    """Pictures with these names and captions."""

    def __init__(self, names, captions=(), name="image_folder"):
        self.names, self.captions, self.name = names, captions, name
        self.class_names, self.fingerprint = (), {}
        self.caption_weights = (0.5, 0.5) if captions else ()

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return Sample(Image.new("RGB", (4, 4)), 0)

    def name_of(self, index):
        return self.names[index]

    def captions_of(self, index):
        return self.captions[index] if self.captions else ()


def prompts(source, chosen=None, **options):
    images = StoredImages(source)
    chosen = range(len(images)) if chosen is None else chosen
    return clip_sources(StoredPromptOptions(**options), ["clip_score"], images, chosen)["prompts"]


def named(count, form="{:03d}.png", **options):
    return Pictures(sorted(form.format(k) for k in range(count)), **options)


@pytest.fixture
def written(tmp_path):
    def write(content, name="prompts.txt"):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write


def test_the_first_caption_that_says_something():
    source = named(4, captions=[("a", "b"), ("", "c"), (" ", ""), ("d", "")])
    assert prompts(source) == ["a", "c", "", "d"]
    assert prompts(source, chosen=[3, 1]) == ["d", "c"]
    with pytest.raises(
        DataError, match=r"none of the 1 image of image_folder has a caption; .*--prompts FILE"
    ):
        prompts(source, chosen=[2])
    with pytest.raises(DataError, match="none of the 2 images"):
        prompts(named(2))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0")), min_size=1, max_size=20
    )
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_of_any_text_come_back(written, lines, end, mark):
    if not any(map(str.strip, lines)) or lines[0].startswith("\ufeff"):
        return
    source = named(len(lines))
    for last in ("", end) if lines[-1] else (end,):
        file = written(mark + (end.join(lines) + last).encode())
        assert prompts(source, prompts=file) == lines
    said = next(k for k, line in enumerate(lines) if line.strip())
    assert prompts(source, prompts=file, chosen=[said]) == [lines[said]]


def test_lines_go_by_the_numbers_of_the_images(written):
    file = written("zero\none\ntwo\n3\n4\n5\n6\n7\n8\n9\nten\n")
    source = named(11, "image{}.png")  # read as image0, image1, image10, image2, …
    found = dict(zip(source.names, prompts(source, prompts=file), strict=True))
    assert (found["image1.png"], found["image2.png"], found["image10.png"]) == ("one", "two", "ten")
    assert prompts(source, prompts=file, chosen=[2]) == ["ten"]
    rows = named(11, "image{}.png", name="hf")  # a table has an order of its own
    assert prompts(rows, prompts=file)[2] == "two"
    assert prompts(Pictures([None] * 11, name="npz"), prompts=file)[10] == "ten"
    words = Pictures(["ant.png", "bee.png", "cat 7.png"])
    assert prompts(words, prompts=written("a\nb\nc")) == ["a", "b", "c"]
    doubtful = Pictures(["a10_2.png", "a10_3.png", "a9_4.png"])
    with pytest.raises(DataError, match="not certain which line belongs to which image"):
        prompts(doubtful, prompts=written("a\nb\nc"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\nb\n", "has 2 lines, and there are 3 images; it has one line for each"),
        ("a\nb\nc\n\n", "has 4 lines"),
        ("", "has 0 lines"),
        ("\n \n\n", "the lines of the 3 images are empty"),
        (b"a\nb\n\xe9t\xe9\n", "line 3: it is not UTF-8"),
        ("a\nb\nc".encode("utf-16"), "line 1: it is not UTF-8"),
        ("a\nb\nc".encode("utf-16-le"), "zero bytes"),
    ],
)
def test_damaged_files_are_refused(written, content, said):
    with pytest.raises(DataError, match=said) as error:
        prompts(named(3), prompts=written(content))
    assert "\n" not in str(error.value)


def test_files_that_hold_no_lines(written, tmp_path):
    with pytest.raises(ConfigError, match=r"a text file with one prompt a line is expected, not \.jsonl"):
        prompts(named(1), prompts=written('{"prompt": "a"}\n', "prompts.jsonl"))
    with pytest.raises(DataError, match="there is no such file"):
        prompts(named(1), prompts=tmp_path / "none.txt")
    with pytest.raises(DataError, match="there is no such file"):
        prompts(named(1), prompts=tmp_path)


def test_options_without_the_score_are_refused(tmp_path):
    images = StoredImages(named(1))
    assert clip_sources(StoredPromptOptions(), ["fid"], images, [0]) == {}
    for options, said in (
        ({"clip": "x"}, "--clip:"),
        ({"clip": "x", "prompts": tmp_path}, "--clip, --prompts:"),
    ):
        with pytest.raises(ConfigError, match=f"{said} only --metrics clip_score reads it"):
            clip_sources(StoredPromptOptions(**options), ["fid"], images, [0])
