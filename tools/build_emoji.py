"""Render the bundled emoji data set, src/unirae/data/assets/emoji.parquet, from a font.

    apt-get install fonts-noto-color-emoji unicode-data
    python tools/build_emoji.py --font /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf \
        --emoji-test /usr/share/unicode/emoji/emoji-test.txt

One row for each fully-qualified emoji of Unicode's list, except skin-tone variants, emoji that the font lacks
and pictures that equal another one pixel for pixel (a few flags do; they would leak between the splits).
Colours are rounded to 32 levels a channel and stored lossless: 2.6 MB at 44 dB. Lossy WebP of the same size
reaches 30 dB, because it halves the resolution of colour; without rounding the file has 5.2 MB.
Needs Pillow with raqm (sequences are joined by shaping) and fontTools; neither is needed to use the data.
"""

import argparse
import hashlib
import io
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, features

from unirae.core.io import file_sha256, write_json
from unirae.data.split import held_out

ASSETS = Path(__file__).parents[1] / "src/unirae/data/assets"
SIZE_PX = 64
CANVAS_PX = 136  # Noto's bitmaps are 136 × 128: this square leaves a margin of 2 px at 64
FONT_SIZE = 109  # the one size of the bitmap font
LEVELS = 32  # of each colour channel; black and white stay exact
VAL_FRACTION = 0.1
SKIN_TONES = range(0x1F3FB, 0x1F400)
VARIATION_SELECTOR = 0xFE0F
LINE = re.compile(r"(?P<codes>[0-9A-F ]+?)\s*; fully-qualified\s*# \S+ E[\d.]+ (?P<name>.+)")


class Emoji(NamedTuple):
    """A line of emoji-test.txt."""

    text: str
    name: str
    group: str

    @property
    def code_points(self) -> str:
        """As Unicode's files write them: ``1F1EB 1F1F7``."""
        return " ".join(f"{ord(c):04X}" for c in self.text)


def read_emoji_test(path: Path) -> list[Emoji]:
    """The fully-qualified emoji in the file's order, without skin tones and components."""
    emoji, group = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ")
        elif (match := LINE.match(line)) and group != "Component":
            text = "".join(chr(int(code, 16)) for code in match["codes"].split())
            if not any(ord(c) in SKIN_TONES for c in text):
                emoji.append(Emoji(text, match["name"], group))
    return emoji


class Renderer:
    """Draws emoji of a colour bitmap font."""

    def __init__(self, font_path: Path):
        from fontTools.ttLib import TTFont

        if not features.check("raqm"):
            raise SystemExit("this Pillow lacks raqm: flags and joined emoji would fall apart")
        self.font = ImageFont.truetype(str(font_path), FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)
        with TTFont(font_path) as tables:
            self.version = tables["name"].getDebugName(5)
            self.characters = set(tables.getBestCmap())
        self.advance = self.font.getlength("\N{GRINNING FACE}")

    def has(self, text: str) -> bool:
        """Whether the font knows every character and joins them to one glyph."""
        known = all(ord(c) in self.characters for c in text if ord(c) != VARIATION_SELECTOR)
        return known and abs(self.font.getlength(text) - self.advance) < 1

    def draw(self, text: str) -> Image.Image:
        """The emoji centred on white, 64 × 64 RGB."""
        canvas = Image.new("RGBA", (CANVAS_PX, CANVAS_PX), "white")
        left, top, right, bottom = self.font.getbbox(text)
        layer = Image.new("RGBA", canvas.size, (255, 255, 255, 0))
        corner = ((CANVAS_PX - right - left) // 2, (CANVAS_PX - bottom - top) // 2)
        ImageDraw.Draw(layer).text(corner, text, font=self.font, embedded_color=True)
        canvas.alpha_composite(layer)
        small = canvas.convert("RGB").resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)
        step = 255 / (LEVELS - 1)
        return small.point([round(round(value / step) * step) for value in range(256)] * 3)


def encode(image: Image.Image) -> bytes:
    """Lossless WebP."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def render_all(
    renderer: Renderer, listed: list[Emoji]
) -> tuple[list[Emoji], list[bytes], dict[str, list[str]]]:
    """Emoji kept, their encoded pictures, and the names of those skipped by reason."""
    images = {emoji: renderer.draw(emoji.text) for emoji in listed if renderer.has(emoji.text)}
    shown_by: dict[bytes, Emoji] = {}
    for emoji, image in images.items():
        digest = hashlib.sha256(image.tobytes()).digest()
        # of equal pictures the shortest name stays: France, not Clipperton Island
        shown_by[digest] = min(shown_by.get(digest, emoji), emoji, key=lambda e: len(e.name))
    kept = [emoji for emoji in images if emoji in set(shown_by.values())]
    skipped = {
        "not in the font": [e.name for e in listed if e not in images],
        "same picture as another": [e.name for e in images if e not in set(kept)],
    }
    return kept, [encode(images[emoji]) for emoji in kept], skipped


def assign_splits(emoji: list[Emoji], groups: list[str]) -> list[str]:
    """A tenth of each group, the smallest SHA-256 of "1F600 …", is for validation."""
    splits = ["train"] * len(emoji)
    for group in groups:
        positions = [i for i, e in enumerate(emoji) if e.group == group]
        for j in held_out([emoji[i].code_points for i in positions], VAL_FRACTION):
            splits[positions[j]] = "val"
    return splits


def write_parquet(path: Path, emoji: list[Emoji], pictures: list[bytes], groups: list[str]) -> None:
    """One file with the features that HF datasets reads back."""
    from datasets import ClassLabel, Dataset, Features, Image, Value

    rows = {
        "image": [{"bytes": picture, "path": None} for picture in pictures],
        "label": [groups.index(e.group) for e in emoji],
        "emoji": [e.text for e in emoji],
        "name": [e.name for e in emoji],
        "split": assign_splits(emoji, groups),
    }
    text = Value("string")
    columns = {
        "image": Image(),
        "label": ClassLabel(names=groups),
        "emoji": text,
        "name": text,
        "split": text,
    }
    Dataset.from_dict(rows, features=Features(columns)).to_parquet(path)


def package_of(path: Path) -> str | None:
    """``name version`` of the Debian package that owns a file, where dpkg knows."""
    try:
        owner = subprocess.run(["dpkg", "-S", path], capture_output=True, text=True, check=True).stdout
        name = owner.split(":")[0]
        query = ["dpkg-query", "-W", "-f=${Package} ${Version}", name]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def main() -> None:
    """Write emoji.parquet and emoji.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--font", type=Path, required=True, help="NotoColorEmoji.ttf (bitmap edition)")
    parser.add_argument("--emoji-test", type=Path, required=True, help="Unicode's emoji-test.txt")
    parser.add_argument("--output", type=Path, default=ASSETS, help="folder for emoji.parquet and emoji.json")
    args = parser.parse_args()

    renderer = Renderer(args.font)
    listed = read_emoji_test(args.emoji_test)
    groups = list(dict.fromkeys(e.group for e in listed))
    emoji, pictures, skipped = render_all(renderer, listed)
    parquet = args.output / "emoji.parquet"
    write_parquet(parquet, emoji, pictures, groups)
    version = re.search(r"^# Version: (.+)$", args.emoji_test.read_text(encoding="utf-8"), re.MULTILINE)
    record = {
        "made_by": "tools/build_emoji.py",
        "count": len(emoji),
        "count_val": assign_splits(emoji, groups).count("val"),
        "groups": groups,
        "skipped": skipped,
        "picture": f"{SIZE_PX} px RGB on white, Lanczos from {CANVAS_PX} px, {LEVELS} levels, lossless WebP",
        "split": "per group, the tenth with the smallest SHA-256 of the code points as text is val",
        "font": {
            "file": args.font.name,
            "version": renderer.version,
            "package": package_of(args.font),
            "sha256": file_sha256(args.font),
            "licence": "SIL OFL 1.1, LICENSE.NotoColorEmoji",
        },
        "emoji_test": {
            "unicode_emoji_version": version[1] if version else None,
            "package": package_of(args.emoji_test),
            "sha256": file_sha256(args.emoji_test),
        },
        "sha256": file_sha256(parquet),
    }
    write_json(args.output / "emoji.json", record)
    print(f"{parquet}: {len(emoji)} emoji, {parquet.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
