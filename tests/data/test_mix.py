"""Several data sets as one: numbers, classes, captions, contents."""

import pickle
from collections.abc import Sequence

import pytest
import torch
from PIL import Image

from unirae.core.errors import ConfigError, DataError
from unirae.data.captions import drawn_caption
from unirae.data.dataset import ImageDataset
from unirae.data.folder import FolderSource
from unirae.data.mix import Mixed, MixedSource, MixPart, Relabelled, join_classes
from unirae.data.sample_key import SampleKey
from unirae.data.source import Sample, Source
from unirae.data.synthetic import SyntheticSource
from unirae.data.transforms import AdmCenterCrop, AdmCropFlip


class Coloured(Source):
    """Pictures that are numbers: the red of picture i is ``first`` + i."""

    def __init__(
        self, name: str, count: int, *, first: int = 0, classes: Sequence[str] = (), captions: int = 0
    ):
        self.name, self._count, self._first, self.class_names = name, count, first, tuple(classes)
        self.fingerprint, self.caption_weights = (
            {"source": name, "count": count},
            (1 / captions,) * captions if captions else (),
        )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        return Sample(
            Image.new("RGB", (6, 6), (self._first + index, 0, 0)), index % max(1, len(self.class_names))
        )

    def name_of(self, index: int) -> str:
        return f"{index}.png"

    def captions_of(self, index: int) -> tuple[str, ...]:
        return tuple(f"{self.name} {index} {i}" for i in range(len(self.caption_weights)))


def mixed(
    *sources: Source, labels: bool = True, captions: bool = False, scored: int = 0
) -> Mixed[ImageDataset]:
    parts = [
        MixPart(
            name=source.name,
            weight=1.0,
            data=ImageDataset(source=source, transform=AdmCenterCrop(size=6), captions=captions),
        )
        for source in sources
    ]
    joined = MixedSource({part.name: part.data.source for part in parts}, labels=labels)
    return Mixed(parts, source=joined, scored=scored)


A = Coloured("a", 4, classes=("cat", "dog"))
B = Coloured("b", 3, first=100, classes=("bird", "cat", "eel"))


def test_samples_are_numbered_through_and_classes_joined_by_name():
    data = mixed(A, B, scored=1)
    assert (len(data), data.class_names, data.num_classes) == (7, ("cat", "dog", "bird", "eel"), 4)
    samples = [data[i] for i in range(7)]
    assert [s["image"][0, 0, 0].item() for s in samples] == [0, 1, 2, 3, 100, 101, 102]
    assert [s["index"] for s in samples] == list(range(7))
    assert [data.class_names[s["label"]] for s in samples] == [
        "cat",
        "dog",
        "cat",
        "dog",
        "bird",
        "cat",
        "eel",
    ]
    assert data.scored_part.name == "b"
    for wrong in (-1, 7):
        with pytest.raises(IndexError):
            data[wrong]
    assert pickle.loads(pickle.dumps(data))[5]["label"] == 0  # as a worker gets it


def test_the_source_says_the_same_as_the_samples():
    source = mixed(A, B).source
    assert [source[i].label for i in range(7)] == [0, 1, 0, 1, 2, 0, 3]
    assert [source.name_of(i) for i in (0, 4)] == ["a/0.png", "b/0.png"]
    assert source.reduced(5, (1, 1)).image.getpixel((0, 0)) == (101, 0, 0)
    assert source.content()["sources"] == {"a": A.content(), "b": B.content()}
    assert source.fingerprint["sources"]["b"] == {"source": "b", "count": 3}


def test_augmentation_is_that_of_the_source_alone():
    source = SyntheticSource(split="train", image_size=16, train_count=8, classes=2)
    alone = ImageDataset(source=source, transform=AdmCropFlip(size=16), seed=5)
    first = MixPart(name="a", weight=1.0, data=ImageDataset(source=A, transform=AdmCenterCrop(size=16)))
    parts = [first, MixPart(name="s", weight=1.0, data=alone)]
    data = Mixed(parts, source=MixedSource({"a": A, "s": source}), scored=0)
    for index in range(8):
        for epoch in range(2):
            assert torch.equal(
                data[SampleKey(4 + index, epoch)]["image"], alone[SampleKey(index, epoch)]["image"]
            )


def test_labels_are_of_all_sources_or_of_none():
    plain = Coloured("plain", 2)
    with pytest.raises(ConfigError, match=r"plain has none while a has 2 classes: set labels=False"):
        mixed(A, plain)
    data = mixed(A, plain, labels=False)
    assert (data.num_classes, [data[i]["label"] for i in range(6)]) == (0, [0] * 6)
    assert mixed(plain).num_classes == 0
    assert join_classes({"x": ("b", "a"), "y": ("a", "c")}).numbers == ((0, 1), (1, 2))


@pytest.mark.parametrize("number", ["0", "3", "-7", "1000000"])
def test_numbers_without_names_are_not_taken_for_the_same_class(number):
    """ "3" may be a dog in one source and a truck in the other."""
    dogs, trucks = (
        Coloured("dogs", 2, classes=("cat", number)),
        Coloured("trucks", 2, classes=(number, "car")),
    )
    with pytest.raises(ConfigError) as error:
        mixed(A, dogs, trucks)
    assert str(error.value) == (
        f"dogs and trucks both have a class {number}, and a number does not tell whether it is the same class: give "
        "the classes names (tar shards by classes.json, Hugging Face data by a ClassLabel column, folders by their "
        "own), or set labels=False"
    )
    assert mixed(dogs, trucks, labels=False).num_classes == 0
    assert mixed(dogs, A).class_names == ("cat", number, "dog"), "of one source alone a number is told apart"


def test_validation_images_are_relabelled():
    found = Relabelled(B, ("cat", "dog", "bird", "eel"))
    assert [found[i].label for i in range(3)] == [2, 0, 3]
    assert found.reduced(1, (1, 1)).label == 0
    assert (found.num_classes, found.content(), found.name_of(1)) == (4, B.content(), "1.png")
    assert {Relabelled(B, ())[i].label for i in range(3)} == {0}


def test_each_source_draws_its_own_captions():
    two, one, none = (Coloured(str(n), 3, captions=n) for n in (2, 1, 0))
    data = mixed(two, one, none, captions=True)
    for epoch in range(4):
        captions = [data[SampleKey(i, epoch)]["caption"] for i in range(9)]
        assert captions == [
            drawn_caption(s, i, seed=0, epoch=epoch) for s in (two, one, none) for i in range(3)
        ]
    assert captions[3:] == ["1 0 0", "1 1 0", "1 2 0", "", "", ""]
    assert data.source.captions_of(0) == ("2 0 0", "2 0 1")
    assert data.source.captions_of(4) == ("1 1 0", "")
    assert data.source.captions_of(7) == ("", "")
    assert sum(data.source.caption_weights) == 1


def test_captions_are_read_only_when_asked_for(tmp_path):
    """A broken caption file stops no run that reads no text."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (6, 6)).save(tmp_path / name)
    (tmp_path / "metadata.csv").write_text('file_name,text\na.png,"never closed\n')
    folder = FolderSource(split="train", data_dir=tmp_path, val_fraction=0)
    data = mixed(folder, Coloured("plain", 3))
    assert [data[i]["index"] for i in range(5)] == list(range(5))
    validation = Relabelled(folder, data.class_names)
    assert validation[0].label == 0
    for source in (data.source, validation):
        for asked in (lambda of: of.caption_weights, lambda of: of.captions_of(0)):
            with pytest.raises(DataError, match=r"metadata\.csv, line 2: not comma-separated values"):
                asked(source)
