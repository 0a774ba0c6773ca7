"""Synthetic pictures, photographs, and the configuration of every source."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import ImageDraw

import unirae.data.photos as photos
from unirae.core.errors import ConfigError, DataError
from unirae.data.photos import PhotosSource
from unirae.data.split import held_out
from unirae.data.synthetic import SyntheticSource

CONFIGS = Path(__file__).parents[2] / "configs/data"


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), classes=st.integers(0, 5), seed=st.integers(0, 3))
def test_synthetic_pictures_repeat_exactly(height, width, classes, seed):
    first, again = (
        SyntheticSource(split="val", image_size=(height, width), val_count=4, classes=classes, seed=seed)
        for _ in range(2)
    )
    assert first.num_classes == classes
    assert first.fingerprint == again.fingerprint
    for i in reversed(range(4)):
        assert first[i].image.size == (width, height)
        assert 0 <= first[i].label < max(classes, 1)
        assert first[i].image.tobytes() == again[i].image.tobytes()


def test_captions_say_what_is_drawn():
    """Colour and corners are those of the class, the number that of the polygons: with one, its pixels show."""
    source = SyntheticSource(split="train", image_size=8, classes=12)
    names = {0: "red triangles", 4: "green heptagons", 9: "violet dodecagons", 8: "blue 11-gons"}
    told = {}
    for i in range(300):
        told.setdefault(source[i].label, set()).add(source.captions_of(i)[0])
    for label, name in names.items():
        assert told[label] >= {f"{number} {name}" for number in ("two", "three", "four")}, told[label]
        assert {text.split()[-1] for text in told[label]} == {name.split()[-1]}
    assert source.captions_of(7) == SyntheticSource(split="train", image_size=99, classes=12).captions_of(7)
    assert {
        t[0].split(" ", 1)[1] for t in map(SyntheticSource(split="val", classes=0).captions_of, range(9))
    } <= {"red triangles", "rose triangles"}


def test_captions_count_the_shapes(monkeypatch):
    drawn = []
    polygon = ImageDraw.ImageDraw.regular_polygon
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "regular_polygon", lambda *a, **k: drawn.append(a[2]) or polygon(*a, **k)
    )
    source = SyntheticSource(split="train", image_size=8)
    for i in range(20):
        drawn.clear()
        label = source[i].label
        assert source.captions_of(i)[0].split()[0] == {2: "two", 3: "three", 4: "four"}[len(drawn)]
        assert set(drawn) == {3 + label}


def test_synthetic_pictures_differ():
    sources = [SyntheticSource(split=s, image_size=32, seed=k) for s in ("train", "val") for k in (0, 1)]
    pictures = {source[i].image.tobytes() for source in sources for i in range(50)}
    assert len(pictures) == 200
    assert len(sources[0]) == 1024
    assert np.std([np.asarray(sources[0][i].image).std() for i in range(20)]) > 1
    with pytest.raises(IndexError):
        sources[0][1024]
    with pytest.raises(ConfigError):
        SyntheticSource(split="train", train_count=0)


def test_photo_crops_come_from_disjoint_regions():
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    train, val = PhotosSource(split="train"), PhotosSource(split="val")
    assert train.num_classes == len(photos.FILES)
    assert len(train) == 512 * train.num_classes
    assert train[9].label == 1
    assert train[9].image.size == (96, 96)
    assert train[9].image.tobytes() == PhotosSource(split="train")[9].image.tobytes()
    for name, of_train, of_val in zip(train.class_names, train._regions, val._regions, strict=True):
        whole = photos.read_photo(name)
        joined = np.concatenate([of_train, of_val], axis=1 if whole.width >= whole.height else 0)
        assert np.array_equal(joined, np.asarray(whole)), name
    assert train.captions_of(3) == train.captions_of(11) == ("part of a photo of a cat",)
    assert len(set(map(train.captions_of, range(8)))) == 8
    with pytest.raises(ConfigError, match="crop_px"):
        PhotosSource(split="val", crop_px=114)


def test_missing_photos_say_what_to_install(monkeypatch):
    monkeypatch.setattr(photos, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-image scikit-learn"):
        PhotosSource(split="train")


@settings(max_examples=50, deadline=None)
@given(names=st.lists(st.text(), unique=True, max_size=30), fraction=st.floats(0.01, 1))
def test_held_out_depends_on_names_alone(names, fraction):
    chosen = {names[i] for i in held_out(names, fraction)}
    assert chosen == {sorted(names)[i] for i in held_out(sorted(names), fraction)}
    assert len(chosen) == (max(1, round(len(names) * fraction)) if names else 0)
    assert held_out(names, 0) == set()


OTHERS = ("default", "_run", "mix")
"""Files that are of no single data set."""


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS.glob("*.yaml") if path.stem not in OTHERS])
def test_every_data_set_has_the_default_keys(name):
    of_run, default, own = (OmegaConf.load(CONFIGS / f"{stem}.yaml") for stem in ("_run", "default", name))
    assert set(own) <= {*of_run, *default, "defaults"}
    assert not set(of_run) & set(default)
    if own.defaults[0] == "default":  # else it is another file under a second name
        assert own.source._target_.startswith("unirae.data.")
