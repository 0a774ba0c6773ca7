"""Words under pictures: broken and cut to fit, whatever the script, and drawn where they belong."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unirae.app.pictures import words
from unirae.app.pictures.captioned_grid import captioned_grid
from unirae.app.pictures.words import fitted, is_right_to_left, reordered, visible, wrapped


def ten(line):
    return len(line) <= 10


def test_a_text_is_broken_between_words():
    assert wrapped("a red cube on a table", ten, lines=3) == ["a red cube", "on a table"]
    assert wrapped("", ten, lines=3) == []


def test_what_has_no_room_is_cut_with_a_mark():
    assert wrapped("a red cube on a green table", ten, lines=2) == ["a red cube", "on a gree…"]


def test_a_word_longer_than_a_line_is_broken_within_but_not_before_its_accent():
    assert wrapped("abcdefghijklmn op", ten, lines=3) == ["abcdefghij", "klmn op"]
    assert wrapped("abcdefghij\u0301klmn", ten, lines=3) == ["abcdefghi", "j\u0301klmn"]


@given(text=st.text(), width=st.integers(2, 12))
def test_lines_hold_all_words_in_their_order(text, width):
    lines = wrapped(text, lambda line: len(line) <= width, lines=10**6)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(1 <= len(line) <= width for line in lines)


@given(text=st.text(st.characters(codec=None), max_size=60), width=st.integers(20, 300))
def test_any_text_fits(text, width):
    kept = fitted(text, width=width, lines=3, size_px=14)
    assert len(kept.lines) <= 3
    assert all(kept.font.getlength(line) <= width or len(line) == 1 for line in kept.lines)


def test_what_has_no_width_is_left_out():
    assert visible("a\x00\x07\u202e b\n\t\u200bc ❤️") == "a b c ❤"


def test_what_no_font_has_is_a_box(monkeypatch):
    monkeypatch.setattr(words, "_system_fonts", list)
    words._font_for.cache_clear()
    assert fitted("红 cube", width=200, lines=1, size_px=14).lines == ["□ cube"]
    words._font_for.cache_clear()


def test_a_font_of_the_system_is_taken_where_it_has_more(monkeypatch):
    glyphs, system = words._glyphs, [Path("poor"), Path("rich"), Path("also")]
    known = {"poor": "a", "rich": "a红", "also": "a红"}
    monkeypatch.setattr(words, "_system_fonts", lambda: system)
    monkeypatch.setattr(
        words, "_glyphs", lambda path: frozenset(known[path.name]) if path in system else glyphs(path)
    )
    words._font_for.cache_clear()
    assert words._font_for(frozenset("红"))[0] == Path("rich")
    assert words._font_for(frozenset("abб"))[0].name == "DejaVuSans.ttf"
    words._font_for.cache_clear()


def test_direction_is_that_of_the_first_letter():
    assert is_right_to_left("12 (שלום) abc")
    assert not is_right_to_left("12 (abc) שלום")
    assert not is_right_to_left("123")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("אבג", "גבא"),
        ("אב abc 12", "abc 12 בא"),
        ("אב (גד)", "(דג) בא"),
        ("abc", "abc"),
    ],
)
def test_order_without_a_library_for_it(line, shown):
    assert reordered(line, right_to_left=is_right_to_left(line)) == shown
    assert reordered("abc אב, גד!", right_to_left=False) == "abc דג ,בא!"


@pytest.mark.parametrize("shapes", [True, False])
def test_words_stand_below_their_picture_at_the_side_where_they_begin(monkeypatch, shapes):
    if not shapes:
        monkeypatch.setattr(words, "_shapes", lambda: False)
    words._loaded.cache_clear()
    images = torch.full((3, 3, 200, 200), 200, dtype=torch.uint8)
    grid = np.array(captioned_grid(images, ["on", "", "של"], columns=3)).astype(int)
    words._loaded.cache_clear()
    assert (grid[10:210, 10:210] == 200).all()
    dark = (grid[210:] < 100).all(-1).any(0)
    assert dark[10:30].any()
    assert not dark[40:-30].any(), "an empty prompt's mark is faint"
    assert dark[-30:-10].any()
    assert (grid[210:, 220:420] < 200).any()


@pytest.mark.parametrize(
    "captions", [["x"] * 5, [""] * 5, ["wörd " * 10_000, "红" * 5000, "\u0301\ud83d", "  ", "🐈"]]
)
def test_a_grid_of_any_captions(captions):
    images = torch.randint(0, 255, (5, 3, 24, 40), dtype=torch.uint8)
    grid = np.array(captioned_grid(images, captions, columns=2))
    assert (grid[10:130:5, 10:210:5] == images[0].permute(1, 2, 0).numpy()).all(), (
        "five times as large, as it is"
    )
