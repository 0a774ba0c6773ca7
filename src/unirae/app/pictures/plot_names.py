"""Names of a user's classes and folders in matplotlib's plots, whatever script they are written in."""

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_OWN = "DejaVu Sans"
"""The font that comes with matplotlib: Latin, Greek, Cyrillic, Hebrew, Arabic and many signs."""
_SPECIAL = ("Last Resort", "Emoji")
"""Words in the names of fonts that have boxes or pictures, which matplotlib cannot draw, in the place of glyphs."""


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names as they can be drawn, and the families of fonts for ``fontfamily=``.

    What matplotlib's own font lacks is looked for in the fonts of this machine. A character that none of them has is
    written as its code, ``\\u732b``, so that names stay different and nothing warns of a missing glyph.
    """
    # a family without a regular weight is drawn in the one that it has, and nobody need be told
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    names = [unicodedata.normalize("NFC", name) for name in names]
    lacking = {letter for name in names for letter in name if letter.isprintable()}
    families = []
    for family, letters in _fonts(lacking):
        if family == _OWN or lacking & letters:
            families.append(family)
        lacking -= letters
        if not lacking:
            break
    return ["".join(_escaped(letter, lacking) for letter in name) for name in names], families


def _escaped(letter: str, lacking: set[str]) -> str:
    drawn = letter.isprintable() and letter not in lacking
    return letter if drawn else letter.encode("unicode_escape").decode()


def _fonts(letters: Iterable[str]) -> Iterable[tuple[str, set[str]]]:
    """Families of fonts, matplotlib's own first, each with those of the letters that it has."""
    from matplotlib import font_manager, get_data_path

    upright = {font.name: font.fname for font in font_manager.fontManager.ttflist if font.style == "normal"}
    upright[_OWN] = str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"))
    for family, file in sorted(upright.items(), key=lambda font: (font[0] != _OWN, font[0])):
        if any(word in family for word in _SPECIAL):
            continue
        if (charmap := _charmap(file)) is not None:
            yield family, {letter for letter in letters if ord(letter) in charmap}


def _charmap(file: str) -> Any:
    """Codes of the characters in a font file; None if the file cannot be drawn from, or is gone by now."""
    from matplotlib import font_manager

    try:
        font = font_manager.get_font(file)
    except (OSError, RuntimeError):
        return None
    return font.get_charmap() if font.scalable else None
