"""Files of prompts: what is read from each kind, and the one line about each that is not understood."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirae.app.inputs.prompt_list import PromptList, as_file
from unirae.app.inputs.prompts import Prompt, natural, read_prompts
from unirae.core.errors import DataError

LINE = '{"prompt": "a red cube"}'


@pytest.fixture
def written(tmp_path):
    """Write a file of this name and read its prompts."""

    def read(name, content):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_prompts(file)

    return read


def texts(prompts):
    return [prompt.text for prompt in prompts]


def test_lines_of_any_language_with_a_mark_and_ends_of_any_system(written):
    content = "\ufeffa cat\r\n\r\n  ein Hund \t\nשלום (1) עולם\r一只猫 🐈\n \n\ufefflast"
    assert texts(written("p.txt", content)) == ["a cat", "ein Hund", "שלום (1) עולם", "一只猫 🐈", "last"]


def test_only_line_ends_part_prompts(written):
    kept = "one\u2028two\x0bthree\x85four"
    assert texts(written("p.txt", f"{kept}\nfive")) == [kept, "five"]


def test_a_prompt_of_ten_thousand_words(written):
    words = " ".join(f"word{i}" for i in range(10_000))
    for name, content in (
        ("p.txt", words),
        ("p.jsonl", json.dumps({"prompt": words})),
        ("p.csv", f"prompt\n{words}"),
    ):
        assert texts(written(name, content)) == [words]


def test_every_field_of_a_line(written):
    line = '{"prompt": "", "seed": 7, "guidance": 2, "negative_prompt": "fog", "tag": "colors", "name": "n"}'
    (prompt,) = written("p.jsonl", f"\n{line}\r\n")
    assert prompt == Prompt(text="", seed=7, cfg_scale=2.0, negative="fog", about={"tag": "colors"}, name="n")
    assert prompt.line == line


@pytest.mark.parametrize("key", ["prompt", "text", "caption"])
@pytest.mark.parametrize("scale", ["cfg_scale", "guidance", "guidance_scale"])
def test_other_words_for_the_same_field(written, key, scale):
    (prompt,) = written("p.ndjson", json.dumps({key: "x", scale: 1.5, "seed": None}))
    assert (prompt.text, prompt.cfg_scale, prompt.seed, prompt.about) == ("x", 1.5, None, {})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a", "seed": "abc"}', 'seed "abc": give a whole number from 0 to 4294967295'),
        ('{"prompt": "a", "seed": -1}', "seed -1: give a whole number from 0"),
        ('{"prompt": "a", "seed": true}', "seed true: give a whole number"),
        ('{"prompt": "a", "seed": 1.5}', "seed 1.5: give a whole number"),
        ('{"prompt": "a", "cfg_scale": -1}', "cfg_scale -1: give a number from 0 up"),
        ('{"prompt": "a", "guidance": NaN}', "guidance NaN: give a number from 0 up"),
        ('{"prompt": "a", "cfg_scale": %s}' % ("1" * 400), "cfg_scale 1111.*: give a number"),
        ('{"prompt": "a", "cfg_scale": %s}' % ("1" * 9000), "this is not JSON"),
        ('{"prompt": "a", "cfg_scale": 1, "guidance": 2}', "cfg_scale and guidance mean the same and differ"),
        ('{"promt": "a"}', "prompt is missing .* the line has promt"),
        ('{"prompt": null}', "prompt null: give text"),
        ('{"prompt": ["a"]}', r'prompt \["a"\]: give text'),
        ('{"prompt": "a", "negative_prompt": 3}', "negative_prompt 3: give text"),
        (r'{"prompt": "\ud83d"}', r"half a character \(.ud83d\)"),
        ('["a"]', "JSON, but no object"),
        ('"a"', "JSON, but no object"),
        ('{"prompt": "a"', "this is not JSON"),
        ("a red cube", "this is not JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_not_understood_is_named(written, line, said):
    with pytest.raises(DataError, match=said) as caught:
        written("p.jsonl", f"{LINE}\n\n{line}\n{LINE}")
    assert "p.jsonl, line 3: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a cat".encode("utf-16"), "line 1, byte 1: this is UTF-16; save the file as UTF-8"),
        ("a cat".encode("utf-16-le"), "line 1, byte 2 of the file: a NUL"),
        (
            "one\r\ntwo\rcafé".encode("latin-1"),
            r"line 3, byte 13 of the file \(0xe9\).*not UTF-8, perhaps Latin-1",
        ),
        (b"\x89PNG\r\n\x1a\n", r"line 1, byte 1 of the file \(0x89\)"),
        (b"", "holds no prompt"),
        (b"\xef\xbb\xbf \r\n\n", "holds no prompt"),
        (LINE.encode(), r"line 1: this is a JSON object; name the file \.jsonl"),
    ],
)
def test_what_is_no_text_of_prompts(written, content, said):
    with pytest.raises(DataError, match=said):
        written("p.txt", content)


def test_a_table(written):
    found = written("p.csv", '\ufeffitem_id, text ,seed\r\nb1,"a, b\nc",5\r\n\r\nb2,,\r\n')
    assert [(one.text, one.seed, one.name) for one in found] == [("a, b\nc", 5, "b1"), ("", None, "b2")]
    assert found[0].about == {"item_id": "b1"}, "another word for the name stays: an evaluator may need it"
    (tabbed,) = written("p.tsv", "prompt\tcfg_scale\na, b\t2")
    assert (tabbed.text, tabbed.cfg_scale) == ("a, b", 2.0)


def test_rows_of_one_name_and_text_are_one_prompt(written):
    rows = "item_id,text,question\na,x,1\na,x,2\nb,x,1\nb,y,2\n"
    assert [(one.name, one.text) for one in written("dpg.csv", rows)] == [("a", "x"), ("b", "x"), ("b", "y")]
    assert texts(written("p.csv", "prompt\nx\nx\n")) == ["x", "x"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a;b\nx;1", "line 1: no column is called prompt, text or caption, of a;b"),
        ("prompt,seed\nx,1\ny,1,2", "line 3: this row does not have the 2 fields"),
        ("prompt,seed\nx", "line 2: this row does not have the 2 fields"),
        ('prompt\n"x', "this is no row of a table"),
        ("prompt,seed\nx,y", 'line 2: seed "y": give a whole number'),
        ("prompt\n", "holds no prompt"),
        ("", "holds no prompt"),
    ],
)
def test_a_table_that_is_not_understood(written, content, said):
    with pytest.raises(DataError, match=said):
        written("p.csv", content)


def test_a_folder_has_a_prompt_in_each_file_in_natural_order(tmp_path):
    for name, text in (
        ("10.txt", "ten\r\n"),
        ("9.TXT", "\ufeffnine\n\n of them"),
        ("b2.txt", "b"),
        ("B10.txt", "c"),
    ):
        (tmp_path / name).write_text(text, newline="")
    for name in ("._9.txt", ".hidden.txt", "notes.md"):
        (tmp_path / name).write_bytes(b"\xff\0")
    found = read_prompts(tmp_path)
    assert [(one.name, one.text) for one in found] == [
        ("9", "nine of them"),
        ("10", "ten"),
        ("b2", "b"),
        ("B10", "c"),
    ]


def test_a_folder_that_is_damaged(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.txt file"):
        read_prompts(tmp_path)
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(DataError, match=r"a\.txt is empty"):
        read_prompts(tmp_path)


def test_a_broken_link_in_a_folder_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"cannot read the prompts .*b\.txt: no such file"):
        read_prompts(tmp_path)


def test_prompts_can_be_told_apart_in_a_set():
    assert (
        len({Prompt(text="a", about={"x": [1]}), Prompt(text="a", about={"x": [1]}), Prompt(text="b")}) == 2
    )


@pytest.mark.parametrize("name", ["missing.txt", "x" * 300, "a\0b"])
def test_a_path_that_cannot_be_read(tmp_path, name):
    with pytest.raises(DataError, match="cannot read the prompts") as caught:
        read_prompts(f"{tmp_path}/{name}")
    assert "\0" not in str(caught.value)


def test_plain_json_is_told_from_json_lines(written):
    with pytest.raises(DataError, match=r"an object on each line of a \.jsonl file"):
        written("p.json", f"[{LINE}]")


@given(st.lists(st.text(), min_size=2))
def test_natural_order_is_an_order(names):
    keys = [natural(name) for name in names]
    assert sorted(names, key=natural) == [name for _, name in sorted(zip(keys, names, strict=True))]
    assert len(set(map(str, keys))) == len(set(names))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
rows = st.fixed_dictionaries(
    {"prompt": st.text()},
    optional={
        "negative_prompt": st.text(),
        "seed": st.integers(0, 2**32 - 1),
        "guidance": st.floats(0, 1e6) | st.integers(0, 100),
        "name": st.text() | st.integers() | json_values,
        "id": json_values,
        "text": json_values,
        "tag": json_values,
        "ü": json_values,
    },
)


@given(content=st.lists(rows, min_size=1, max_size=4))
def test_prompts_written_and_read_again_are_the_same(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "given.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in content))
    first = read_prompts(folder / "given.jsonl")
    (folder / "again.jsonl").write_bytes(as_file(PromptList(prompts=first).lines()))
    assert read_prompts(folder / "again.jsonl") == first
