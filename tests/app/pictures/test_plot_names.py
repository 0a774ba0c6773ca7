"""Names in plots: no missing glyph, whatever the script, with whatever fonts this machine has."""

import logging
import warnings
from types import SimpleNamespace

import pytest
import torch
from matplotlib import font_manager

from unirae.app.pictures.confusion import save_confusion
from unirae.app.pictures.plot_names import drawable

NAMES = ["猫", "собаки", "कुत्ता", "แมว", "عربي", "👍 good", "two\nlines", "$x$", "café", "bad \udce9 byte"]


def font(family: str, file: str, **other):
    return SimpleNamespace(**{"name": family, "fname": file, "style": "normal"} | other)


@pytest.fixture
def no_fonts(monkeypatch):
    """As if matplotlib's own were all."""
    fonts = [font for font in font_manager.fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)


@pytest.mark.usefixtures("no_fonts")
def test_what_no_font_has_is_written_as_its_code():
    names, families = drawable(NAMES)
    assert families == ["DejaVu Sans"]
    assert names[0] == "\\u732b"
    assert names[1] == "собаки"
    assert names[4:] == ["عربي", "\\U0001f44d good", "two\\nlines", "$x$", "café", "bad \\udce9 byte"]
    assert names[2].startswith("\\u0915\\u0941")
    assert len(set(names)) == len(NAMES)


def test_fonts_of_the_machine_are_asked(monkeypatch):
    files = (f.fname for f in font_manager.fontManager.ttflist)
    stix = next(
        file for file in files if file.endswith("STIXGeneral.ttf")
    )  # the upright one, in whatever order
    letter = "の"  # of the fonts that come with matplotlib this one has it
    others = [
        font("Box Last Resort", stix),
        font("Gone", "/nowhere.ttf"),
        font("Slanted", stix, style="italic"),
    ]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", others)
    assert drawable([letter]) == (["\\u306e"], ["DejaVu Sans"])
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*others, font("Theirs", stix)])
    assert drawable([f"a{letter}"]) == ([f"a{letter}"], ["DejaVu Sans", "Theirs"])


@pytest.mark.parametrize("own_alone", [True, False])
def test_a_picture_is_drawn_without_a_warning(own_alone, request, tmp_path, caplog):
    if own_alone:
        request.getfixturevalue("no_fonts")
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("error")
        save_confusion(tmp_path / "confusion.png", torch.eye(len(NAMES), dtype=torch.int64), NAMES)
    assert not caplog.messages
