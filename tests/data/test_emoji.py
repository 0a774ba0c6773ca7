"""The bundled file: complete, licensed, split once and for all."""

import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from importlib import resources
from pathlib import Path

import pytest

import unirae
from unirae.core.errors import ConfigError
from unirae.data.emoji import EmojiSource
from unirae.data.split import held_out

ASSETS = resources.files("unirae.data") / "assets"
RECORD = json.loads((ASSETS / "emoji.json").read_text())


@pytest.fixture(scope="module")
def sources() -> dict[str, EmojiSource]:
    return {split: EmojiSource(split=split) for split in ("train", "val")}


def test_the_file_is_the_recorded_one_and_small():
    data = (ASSETS / "emoji.parquet").read_bytes()
    assert hashlib.sha256(data).hexdigest() == RECORD["sha256"]
    assert len(data) <= 3_000_000
    assert "SIL OPEN FONT LICENSE Version 1.1" in (ASSETS / "LICENSE.NotoColorEmoji").read_text()
    assert RECORD["font"]["sha256"]
    assert RECORD["emoji_test"]["sha256"]


def test_counts_and_classes(sources):
    train, val = sources["train"], sources["val"]
    assert (len(train), len(val)) == (1676, 185)
    assert len(train) + len(val) == RECORD["count"]
    assert train.num_classes == 9
    assert train.class_names == val.class_names == tuple(RECORD["groups"])
    assert "Component" not in train.class_names
    assert train.fingerprint != val.fingerprint


def test_the_split_is_the_documented_one(sources):
    """Disjoint, and in each class the tenth with the smallest hash of its code points."""
    labels = {text: source[i].label for source in sources.values() for i, text in enumerate(source.emoji)}
    assert len(labels) == RECORD["count"]
    expected = set()
    for label in range(9):
        texts = [text for text, its_label in labels.items() if its_label == label]
        chosen = held_out([" ".join(f"{ord(c):04X}" for c in text) for text in texts], 0.1)
        expected |= {texts[i] for i in chosen}
    assert set(sources["val"].emoji) == expected


def test_no_picture_is_in_both_splits(sources):
    train, val = ({s[i].image.tobytes() for i in range(len(s))} for s in sources.values())
    assert len(train) + len(val) == RECORD["count"]
    assert not train & val


def test_pictures_are_emoji_on_white(sources):
    for source in sources.values():
        for i in range(0, len(source), 17):
            image = source[i].image
            assert image.mode == "RGB"
            assert image.size == (64, 64)
            assert image.getpixel((0, 0)) == (255, 255, 255)
            assert len(image.getcolors(64 * 64)) > 1, source.emoji[i]


def test_labels_and_flags(sources):
    train = sources["train"]
    names = {text: train.class_names[train[i].label] for i, text in enumerate(train.emoji)}
    assert names["😀"] == "Smileys & Emotion"
    flags = [text for text in names if "REGIONAL INDICATOR" in unicodedata.name(text[0], "")]
    assert len(flags) > 200
    assert {names[text] for text in flags} == {"Flags"}
    assert not any(0x1F3FB <= ord(c) <= 0x1F3FF for text in names for c in text)


def test_reading_writes_nothing_into_the_home_folder(tmp_path):
    """A read-only home must do, so the copy that Dataset.from_parquet caches must not be made."""
    code = "from unirae.data.emoji import EmojiSource; EmojiSource(split='val')[0]"
    package = str(Path(unirae.__file__).parents[1])
    env = {**os.environ, "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": package}
    subprocess.run([sys.executable, "-B", "-c", code], env=env, check=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_unknown_split_is_refused():
    with pytest.raises(ConfigError, match="split='test'"):
        EmojiSource(split="test")  # type: ignore[arg-type]
