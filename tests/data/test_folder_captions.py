"""Captions beside pictures: metadata files, NAME.txt and NAME.json; what is missing, damaged or ambiguous."""

import json
import os
import sys
import unicodedata

import pytest
from PIL import Image

from unirae.core.arguments import called
from unirae.core.errors import DataError
from unirae.data.captions import Captioned, drawn_caption
from unirae.data.folder import FolderSource


def picture(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / path)
    return root


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def rows(path, *records):
    write(path, "".join(json.dumps(record) + "\n" for record in records))


def opened(root, split="train", **options):
    return FolderSource(split=split, data_dir=root, **{"val_fraction": 0, **options})


def captions(root, **options):
    source = opened(root, **options)
    return {source.name_of(i): source.captions_of(i) for i in range(len(source))}


@pytest.fixture
def three(tmp_path):
    return picture(tmp_path, "a.png", "b.png", "c.png")


@pytest.fixture
def read(monkeypatch):
    """Files that are read for captions."""
    import unirae.data.caption_files as files

    seen, original = [], files.FolderCaptionFiles.read

    def note(self, path, most=None):
        seen.append(path)
        return original(self, path, most)

    monkeypatch.setattr(files.FolderCaptionFiles, "read", note)
    return seen


def parquet(path, table):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(table), path)


EXPECTED = {"a.png": ("a cat",), "b.png": ("",), "c.png": ('two "dogs",\nin the rain',)}


def as_jsonl(root):
    rows(
        root / "metadata.jsonl",
        {"file_name": "a.png", "text": " a cat "},
        {"file_name": "b.png", "text": "  ", "other": 3},
        {"file_name": "c.png", "text": 'two "dogs",\r\nin the rain\n'},
    )


def as_csv(root):
    text = 'file_name,text\na.png,a cat\nb.png,\n"c.png","two ""dogs"",\nin the rain"\n'
    write(root / "metadata.csv", b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())


def as_parquet(root):
    texts = ["a cat", None, 'two "dogs",\nin the rain']
    parquet(root / "metadata.parquet", {"file_name": ["a.png", "b.png", "c.png"], "text": texts})


def as_txt(root):
    write(root / "a.txt", b"\xef\xbb\xbfa cat\r\n")
    write(root / "b.TXT", "\n")
    write(root / "c.txt", 'two "dogs",\r\nin the rain\r\n'.encode("utf-16"))


def as_json(root):
    write(root / "a.json", '{"caption": "a cat", "width": 4}')
    write(root / "b.JSON", '{"caption": null}')
    write(root / "c.json", json.dumps({"caption": EXPECTED["c.png"]}))


@pytest.mark.parametrize("lay", [as_jsonl, as_csv, as_parquet, as_txt, as_json])
def test_the_same_captions_wherever_they_stand(three, lay):
    lay(three)
    assert captions(three) == EXPECTED
    source = opened(three)
    assert source.caption_weights == source.caption_weights_of(0) == (1.0,)
    assert [s.captions_of(i) for s in [Captioned(source, missing="leave_out")] for i in range(len(s))] == [
        EXPECTED["a.png"],
        EXPECTED["c.png"],
    ]


def test_nothing_is_read_unless_captions_are_asked_for(three, read):
    write(three / "metadata.jsonl", "broken")
    write(three / "a.txt", "a cat")
    source = opened(three, caption_column="nowhere")
    assert len(source) == 3
    source[0], source.content(), source.fingerprint, source.name_of(1)
    assert read == []
    with pytest.raises(DataError, match=r"metadata\.jsonl, line 1: not JSON"):
        _ = source.caption_weights


def test_captions_are_read_once(three, read):
    as_txt(three)
    source = opened(three)
    for index in range(3):
        source.captions_of(index)
    assert sorted(read) == ["a.txt", "b.TXT", "c.txt"]


def test_a_folder_without_captions(three):
    source = opened(three)
    assert source.caption_weights == source.captions_of(0) == source.caption_weights_of(0) == ()
    with pytest.raises(
        DataError, match="image_folder: none of the 3 pictures of the split 'train' has a caption"
    ):
        Captioned(source, missing="null_prompt")


def test_tables_in_splits_and_below(tmp_path):
    """Paths count from the table's folder; one may speak of pictures in folders below, in another split, or nowhere."""
    picture(
        tmp_path,
        "train/cat/1.png",
        "train/dog/sub/2.png",
        "train/dog/3.png",
        "val/cat/4.png",
        "val/dog/5.png",
    )
    rows(tmp_path / "metadata.jsonl", {"file_name": "val/cat/4.png", "text": "four"})
    rows(tmp_path / "train/metadata.jsonl", {"file_name": "cat/1.png", "text": "one"})
    write(tmp_path / "train/dog/metadata.csv", "file_name,text\nsub/2.png,two\n./sub/../3.png,three\n")
    write(tmp_path / "val/dog/metadata.csv", "file_name,text\n5.png,five\n")
    assert captions(tmp_path) == {
        "train/cat/1.png": ("one",),
        "train/dog/3.png": ("three",),
        "train/dog/sub/2.png": ("two",),
    }
    assert captions(tmp_path, split="val") == {"val/cat/4.png": ("four",), "val/dog/5.png": ("five",)}


def test_held_out_pictures_keep_their_captions(tmp_path, caplog):
    names = [f"{i}.png" for i in range(10)]
    picture(tmp_path, *names)
    rows(tmp_path / "metadata.jsonl", *({"file_name": name, "text": f"number {name}"} for name in names))
    train, val = (captions(tmp_path, split=split, val_fraction=0.3) for split in ("train", "val"))
    assert (len(train), len(val)) == (7, 3)
    assert train | val == {name: (f"number {name}",) for name in names}
    assert "not there" not in caplog.text


def test_rows_of_files_that_are_not_there_are_counted(three, caplog):
    write(three / "film.mov", "x")
    rows(
        three / "metadata.jsonl",
        {"file_name": "a.png", "text": "a"},
        *(
            {"file_name": name, "text": "x"}
            for name in ("gone.png", "../a.png", "/etc/passwd", "film.mov", "n\0.png")
        ),
    )
    assert captions(three)["a.png"] == ("a",)
    assert (
        "metadata.jsonl: 4 rows name files that are not there (gone.png, ../a.png, /etc/passwd" in caplog.text
    )


def test_paths_as_windows_and_macs_write_them(tmp_path):
    name = unicodedata.normalize("NFD", "caf\u00e9.png")
    picture(tmp_path, f"x/{name}", "x/b.png")
    composed = unicodedata.normalize("NFC", f"x/{name}")
    rows(
        tmp_path / "metadata.jsonl",
        {"file_name": composed, "text": "one"},
        {"file_name": "x\\b.png", "text": "two"},
    )
    assert set(captions(tmp_path).values()) == {("one",), ("two",)}


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems hold UTF-8 names only")
def test_names_that_are_not_text(tmp_path):
    root = os.fsencode(picture(tmp_path, "a.png"))
    os.rename(root + b"/a.png", root + b"/\xe9.png")
    with open(root + b"/\xe9.txt", "wb") as file:
        file.write(b"odd")
    assert captions(tmp_path) == {"\\xe9.png": ("odd",)}


def test_files_of_single_pictures_that_cannot_be_read_are_counted(tmp_path, caplog):
    picture(tmp_path, *(f"{i}.png" for i in range(7)))
    write(tmp_path / "0.txt", "good")
    write(tmp_path / "1.txt", "caf\u00e9".encode("latin-1"))
    write(tmp_path / "2.txt", b"x" * (2**20 + 1))
    os.mkfifo(tmp_path / "3.txt")
    (tmp_path / "4.txt").symlink_to("nowhere")
    (tmp_path / "5.txt").symlink_to("5.txt")
    (tmp_path / "6.txt").mkdir()
    assert [texts for (texts,) in captions(tmp_path).values()] == ["good", *[""] * 6]
    assert (
        "the captions of 2 files cannot be read and count as missing: 1.txt (not UTF-8) first" in caplog.text
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "no object with keys"),
        ("[" * 100000, "not JSON"),
        ('{"caption": 5}', "'caption' holds a number, not text"),
        ('{"caption": "\\ud800"}', "'caption' holds half a character (\\ud800)"),
    ],
)
def test_json_that_holds_no_caption_is_counted(three, caplog, content, reason):
    write(three / "a.json", content)
    write(three / "b.json", '{"caption": "b"}')
    assert captions(three) == {"a.png": ("",), "b.png": ("b",), "c.png": ("",)}
    assert f"the captions of 1 file cannot be read and count as missing: a.json ({reason}" in caplog.text


JSONL, CSV = "metadata.jsonl", "metadata.csv"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            JSONL,
            '{"file_name": "a.png", "text": "x"}\n\n{"file_name": "b.png"',
            "metadata.jsonl, line 3: not JSON",
        ),
        (JSONL, '["a.png"]', "metadata.jsonl, line 1: no object"),
        (
            JSONL,
            '{"file_name": "a.png", "text": "x"}\n{"text": "y"}',
            "metadata.jsonl, line 2: no `file_name`",
        ),
        (JSONL, '{"file_name": 3, "text": "x"}', "metadata.jsonl, line 1: no `file_name`"),
        (
            JSONL,
            '{"file_name": "a.png", "text": "x"}\n{"file_name": "b.png", "text": 5}',
            "line 2: column 'text' holds a",
        ),
        (JSONL, b'{"file_name": "a.png",\n"text": "caf\xe9"}', "metadata.jsonl, line 2: not UTF-8"),
        (CSV, "file_name,text\na.png,a, b\n", "metadata.csv, line 2: 3 fields under 2 columns"),
        (CSV, 'file_name,text\na.png,"a\nb.png,b\n', "metadata.csv, line 2: not comma-separated"),
        (CSV, "file_name,text,text\na.png,a,b\n", "metadata.csv, line 1: two columns are called 'text'"),
        (CSV, 'file_name,text\na.png,"1\n2"\n,b\n', "metadata.csv, line 4: no `file_name`"),
        (CSV, b"file_name,text\na.png,caf\xe9\n", "metadata.csv, line 2: not UTF-8"),
        ("metadata.parquet", b"PAR1", "metadata.parquet is no parquet file that can be read"),
    ],
)
def test_damaged_tables_are_refused_by_line(three, name, content, said):
    write(three / name, content)
    with pytest.raises(DataError) as error:
        _ = opened(three).caption_weights
    assert said in str(error.value)
    assert str(error.value).startswith(f"{three}: ")
    assert "\n" not in str(error.value)


def test_two_rows_for_one_picture_are_refused(three):
    rows(three / "metadata.jsonl", *({"file_name": n, "text": n} for n in ("a.png", "b.png", "./a.png")))
    with pytest.raises(
        DataError, match=r"a\.png has two rows, metadata\.jsonl, line 1 and metadata\.jsonl, line 3"
    ):
        captions(three)
    rows(three / "metadata.jsonl", {"file_name": "a.png", "text": "one"})
    write(three / "metadata.csv", "file_name,text\n\na.png,other\n")
    with pytest.raises(DataError, match=r"has two rows, metadata\.csv, line 3 and metadata\.jsonl, line 1"):
        captions(three)


def test_a_table_of_something_else_is_not_read(three, caplog):
    write(three / "metadata.csv", "id;text\n1;2\n")
    rows(three / "metadata.jsonl", {"file_name": "a.png", "label": 3}, {"file_name": "a.png", "label": 4})
    write(three / "b.txt", "b")
    assert captions(three) == {"a.png": ("",), "b.png": ("b",), "c.png": ("",)}
    assert (
        "metadata.csv is not read for captions: no column `file_name`; its columns are id;text" in caplog.text
    )


def test_columns_are_told_by_name_and_type(three):
    rows(
        three / "metadata.jsonl",
        {"file_name": "a.png", "caption": "right", "title": "no", "description": {"no": "no"}, "text": None},
        {"file_name": "b.png", "prompt": "  "},
    )
    assert captions(three) == {"a.png": ("right",), "b.png": ("",), "c.png": ("",)}


def test_several_names_are_asked_about(three):
    rows(three / "metadata.jsonl", {"file_name": "a.png", "text": "x", "prompt": "y"})
    with pytest.raises(
        DataError, match=r"several names \(text, prompt\).*caption_column=text, or .*={text:1,prompt:1}"
    ):
        captions(three)
    with (
        called({"source.": "data."}),
        pytest.raises(DataError, match=r"data\.caption_column=text, or data\."),
    ):
        captions(three)
    write(three / "metadata.jsonl", "")
    write(three / "a.json", '{"caption": "x", "prompt": "y"}')
    with pytest.raises(DataError, match=r"several names \(caption, prompt\)"):
        captions(three)


def test_a_table_and_txt_are_asked_about(three):
    rows(three / "metadata.jsonl", {"file_name": "a.png", "text": "table"})
    write(three / "b.txt", "file")
    with pytest.raises(
        DataError,
        match=r"metadata\.jsonl \(column 'text'\) and in files NAME\.txt.*=text, or .*={text:1,txt:1}",
    ):
        captions(three)
    assert captions(three, caption_column="text")["a.png"] == ("table",)
    assert captions(three, caption_column="txt") == {"a.png": ("",), "b.png": ("file",), "c.png": ("",)}
    both = captions(three, caption_column={"text": 1, "txt": 3})
    assert both == {"a.png": ("table", ""), "b.png": ("", "file"), "c.png": ("", "")}


def test_txt_counts_before_json_as_img2dataset_writes_both(three, read):
    write(three / "a.txt", "file")
    write(three / "a.json", '{"caption": "key"}')
    assert captions(three)["a.png"] == ("file",)
    assert read == ["a.txt"]
    assert captions(three, caption_column="caption")["a.png"] == ("key",)


def test_blank_files_are_no_captions_and_no_question(three):
    for name in "abc":
        write(three / f"{name}.txt", " \n")
        write(three / f"{name}.json", json.dumps({"caption": name}))
    assert captions(three)["c.png"] == ("c",)
    rows(three / "metadata.jsonl", {"file_name": "a.png", "text": "table"})
    assert captions(three)["a.png"] == ("table",)


def test_two_captions_of_one_name_are_refused_unless_equal(three):
    rows(three / "metadata.jsonl", {"file_name": "a.png", "caption": "x"})
    write(three / "a.json", '{"caption": " x"}')
    assert captions(three, caption_column="caption")["a.png"] == ("x",)
    write(three / "a.json", '{"caption": "y"}')
    with pytest.raises(
        DataError, match=r"a\.png has two captions 'caption', in metadata\.jsonl, line 1 and in a\.json"
    ):
        captions(three, caption_column="caption")


def test_endings_that_differ_in_case_alone(three):
    write(three / "notes.txt", "no picture's")
    write(three / "notes.TXT", "no picture's")
    write(three / "a.txt", "one")
    assert captions(three)["a.png"] == ("one",)
    write(three / "a.TXT", "other")
    if len(list(three.glob("a.[tT]*"))) == 2:  # a file system may hold only one
        with pytest.raises(DataError, match="belong to the same picture; remove one"):
            captions(three)


def test_columns_with_weights(three):
    rows(
        three / "metadata.jsonl",
        {"file_name": "a.png", "long": "a long one", "short": "one"},
        {"file_name": "b.png", "long": "a long one"},
    )
    source = opened(three, caption_column={"long": 3, "short": 1})
    assert source.caption_weights == (0.75, 0.25)
    assert [source.captions_of(i) for i in range(3)] == [("a long one", "one"), ("a long one", ""), ("", "")]
    found = [drawn_caption(source, 0, seed=0, epoch=epoch) for epoch in range(2000)]
    assert abs(found.count("one") / 2000 - 0.25) < 0.05
    with pytest.raises(
        DataError, match=r"no picture has a caption 'shrt'.*there is long, short: choose another caption_c"
    ):
        _ = opened(three, caption_column={"long": 1, "shrt": 1}).caption_weights


def test_a_column_may_be_missing_from_the_validation_split(tmp_path):
    """It may be rare, so that none of a few pictures has it; a slip of the keyboard shows in training."""
    picture(tmp_path, "train/a.png", "train/b.png", "val/c.png")
    write(tmp_path / "train/a.json", '{"long": "a long one", "short": "one"}')
    write(tmp_path / "val/c.json", '{"long": "another"}')
    weights = {"long": 1, "short": 1}
    assert opened(tmp_path, caption_column=weights).captions_of(0) == ("a long one", "one")
    val = opened(tmp_path, split="val", caption_column=weights)
    assert (val.captions_of(0), val.caption_weights) == (("another", ""), (0.5, 0.5))
    assert drawn_caption(val, 0, seed=0, epoch=0) == "another"
    with pytest.raises(DataError, match=r"no picture has a caption 'shrt'.*there is long, short"):
        _ = opened(tmp_path, caption_column={"long": 1, "shrt": 1}).caption_weights


def test_lists_of_captions(three):
    """A picture's captions of a column share its weight, however many there are."""
    rows(
        three / "metadata.jsonl",
        {"file_name": "a.png", "captions": ["1", "2", "3"], "title": "t"},
        {"file_name": "b.png", "captions": ["1", " "], "title": "t"},
        {"file_name": "c.png", "captions": "alone", "title": ""},
    )
    source = opened(three, caption_column={"captions": 0.6, "title": 0.4})
    assert [source.captions_of(i) for i in range(3)] == [
        ("1", "2", "3", "t"),
        ("1", "", "", "t"),
        ("alone", "", "", ""),
    ]
    assert source.caption_weights == pytest.approx((0.2, 0.2, 0.2, 0.4))
    found = [drawn_caption(source, 1, seed=0, epoch=epoch) for epoch in range(2000)]
    assert abs(found.count("t") / 2000 - 0.4) < 0.05
    assert abs(found.count("1") / 2000 - 0.6) < 0.05


def test_line_separators_inside_texts(three):
    rows(three / "metadata.jsonl", {"file_name": "a.png", "text": "one"})
    text = '{"file_name": "b.png", "text": "line\u2028and\x85next"}\n'
    write(three / "metadata.jsonl", (three / "metadata.jsonl").read_text() + text)
    assert captions(three)["b.png"] == ("line\u2028and\x85next",)
