"""Words under pictures, in any script: wrapped, cut to fit, right-to-left ones from the right.

What no font here has a glyph for is drawn as a box. DejaVu Sans, which matplotlib brings, has Latin, Greek, Cyrillic,
Hebrew, Arabic and more; of Chinese, Japanese and Korean a font of the system is taken where a known one lies.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_SYSTEM_FONTS = (
    *("notosanscjk", "sourcehansans", "notosanssc", "notosansjp", "notosanskr", "pingfang", "hiragino"),
    *("msyh", "yugoth", "malgun", "simhei", "simsun", "wqy", "droidsansfallback", "arialunicode", "unifont"),
)
"""Beginnings of the names of fonts with many scripts, without signs and in lower case."""

_JOINERS = "\u200c\u200d"
_BOX = "□"
_LONGEST = 2000
"""Characters of a text that are looked at: more than any picture has room for."""


@dataclass(frozen=True)
class Words:
    """Lines ready to be drawn.

    Attributes:
        font: of Pillow.
        right_to_left: whether lines begin at the right.
    """

    lines: list[str]
    font: Any
    right_to_left: bool

    def draw(
        self, draw: Any, *, left: int, top: int, width: int, line_px: int, ink: tuple[int, int, int]
    ) -> None:
        """Draw the lines into a column of a picture."""
        how: dict[str, Any] = {"fill": ink, "font": self.font}
        if _shapes():
            how["direction"] = "rtl" if self.right_to_left else "ltr"
        for number, line in enumerate(self.lines):
            shown = line if _shapes() else reordered(line, right_to_left=self.right_to_left)
            x = left + width - round(draw.textlength(shown, font=self.font)) if self.right_to_left else left
            draw.text((max(x, left), top + number * line_px), shown, **how)


def fitted(text: str, *, width: int, lines: int, size_px: int) -> Words:
    """A text of any length and script as at most ``lines`` lines of ``width`` pixels; ``…`` ends one that was cut."""
    shown = visible(text)
    path, characters = _font_for(frozenset(shown))
    font = _loaded(path, size_px)
    box = _BOX if _BOX in characters else "?"
    shown = "".join(c if c in characters or c == " " else box for c in shown)
    kept = wrapped(shown, lambda line: font.getlength(line) <= width, lines=lines)
    return Words(lines=kept, font=font, right_to_left=is_right_to_left(shown))


def visible(text: str) -> str:
    """The text on one line, without what has no width: controls, marks of direction, variants of a glyph."""
    composed = unicodedata.normalize("NFC", " ".join(text[:_LONGEST].split()))
    return "".join(c for c in composed if c in _JOINERS or not _is_invisible(c))


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf") or "\ufe00" <= character <= "\ufe0f"


def wrapped(text: str, fits: Callable[[str], bool], *, lines: int) -> list[str]:
    """Break a text between words, or within one that is longer than a line.

    Args:
        fits: whether a line is short enough.
        lines: the largest number of lines; the last one ends in ``…`` where more would follow.
    """
    kept: list[str] = []
    rest = text.strip()
    while rest and len(kept) < lines:
        end = _break(rest, fits)
        kept.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if rest:
        last = kept.pop()
        while last and not fits(f"{last}…"):
            last = last[:-1].rstrip()
        kept.append(f"{last}…")
    return kept


def _break(text: str, fits: Callable[[str], bool]) -> int:
    """The end of the first line, one character at least."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle - 1)
    if low == len(text):
        return low
    space = text.rfind(" ", 0, low + 1)
    if space > 0:
        return space
    while low > 1 and (unicodedata.combining(text[low]) or text[low] in _JOINERS):
        low -= 1
    return low


def is_right_to_left(text: str) -> bool:
    """True where the first letter of a text is of a script that is written so."""
    kinds = (unicodedata.bidirectional(character) for character in text)
    return next((kind in ("R", "AL") for kind in kinds if kind in ("L", "R", "AL")), False)


def reordered(line: str, *, right_to_left: bool) -> str:
    """A line in the order in which its characters stand from the left, where Pillow has no library that finds it.

    A short form of Unicode's algorithm: letters and digits decide, and signs go with the direction on both their sides,
    or else with the line's.
    """
    directions = [_direction(character) for character in line]
    for i, direction in enumerate(directions):
        if direction is None:
            before = directions[i - 1] if i else right_to_left
            after = next((d for d in directions[i:] if d is not None), right_to_left)
            directions[i] = before if before == after else right_to_left
    runs: list[tuple[bool | None, str]] = []
    for character, direction in zip(line, directions, strict=True):
        if runs and runs[-1][0] == direction:
            runs[-1] = direction, runs[-1][1] + character
        else:
            runs.append((direction, character))
    mirror = str.maketrans("()[]{}<>«»", ")(][}{><»«")
    shown = [run[::-1].translate(mirror) if direction else run for direction, run in runs]
    return "".join(reversed(shown) if right_to_left else shown)


def _direction(character: str) -> bool | None:
    """True for right to left, False for left to right, None for signs."""
    kind = unicodedata.bidirectional(character)
    return True if kind in ("R", "AL") else False if kind in ("L", "EN", "AN") else None


def _shapes() -> bool:
    """True where Pillow can join letters and order directions."""
    from PIL import features

    return bool(features.check("raqm"))


@lru_cache
def _font_for(characters: frozenset[str]) -> tuple[Path | None, frozenset[str]]:
    """The font that lacks the fewest of these characters, and which ones it has; None for Pillow's own."""
    import matplotlib

    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    best = (own, _glyphs(own)) if own.is_file() else (None, frozenset(map(chr, range(32, 256))))
    if characters - best[1] - {" "}:
        for path in _system_fonts():
            there = _glyphs(path)
            if len(characters & there) > len(characters & best[1]):
                best = path, there
    return best


@lru_cache(maxsize=8)
def _glyphs(path: Path) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(str(path)).get_charmap()))
    except (RuntimeError, OSError):  # of a damaged font
        return frozenset()


@lru_cache
def _system_fonts() -> list[Path]:
    from matplotlib.font_manager import findSystemFonts

    def rank(path: Path) -> int | None:
        name = "".join(filter(str.isalnum, path.name.lower()))
        return next((i for i, start in enumerate(_SYSTEM_FONTS) if name.startswith(start)), None)

    ranked = [(place, path) for path in map(Path, findSystemFonts()) if (place := rank(path)) is not None]
    return [path for _, path in sorted(ranked)][:8]


@lru_cache(maxsize=8)
def _loaded(path: Path | None, size_px: int) -> Any:
    from PIL import ImageFont

    if path is None:
        return ImageFont.load_default(size_px)
    layout = ImageFont.Layout.RAQM if _shapes() else ImageFont.Layout.BASIC
    return ImageFont.truetype(str(path), size_px, layout_engine=layout)
