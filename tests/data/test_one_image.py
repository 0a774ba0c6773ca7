"""One picture under many numbers, and what training makes of it."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from unirae.app.config.composition import compose
from unirae.app.run import builders
from unirae.core.errors import ConfigError
from unirae.core.keyed_random import Stream, normal, sample_keys
from unirae.data.emoji import EmojiSource
from unirae.data.folder import FolderSource
from unirae.data.one_image import OneImageSource
from unirae.data.synthetic import SyntheticSource

SHAPES = {"image_size": 16, "train_count": 5, "classes": 3}


def test_every_number_shows_the_wanted_picture():
    shapes = SyntheticSource(split="train", **SHAPES)
    source = OneImageSource(split="train", index=3, count=7, of=shapes)
    assert len(source) == 7
    assert source.class_names == shapes.class_names
    assert source.num_classes == 3
    for index in range(7):
        assert source[index].image.tobytes() == shapes[3].image.tobytes() != shapes[2].image.tobytes()
        assert source[index].label == shapes[3].label
    with pytest.raises(IndexError):
        source[7]
    assert source.captions_of(6) == shapes.captions_of(3) != shapes.captions_of(2)
    assert source.caption_weights == source.caption_weights_of(5) == (1.0,)


def test_captions_of_files_are_read_only_when_asked_for(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text("broken")
    of = FolderSource(split="train", data_dir=tmp_path, val_fraction=0)
    source = OneImageSource(split="train", count=2, of=of)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": ["one", "two"]}')
    assert source.captions_of(1) == ("one", "two")
    assert source.caption_weights == (0.5, 0.5)


def test_both_splits_show_a_bundled_picture_by_default():
    train, val = (OneImageSource(split=split, index=40) for split in ("train", "val"))
    assert train[0].image.tobytes() == val[9].image.tobytes()
    assert train[0].image.tobytes() == EmojiSource(split="train")[40].image.tobytes()
    assert train.fingerprint == val.fingerprint


def test_the_fingerprint_tells_pictures_apart():
    others = [{}, {"index": 1}, {"count": 8}, {"of": SyntheticSource(split="train", **SHAPES, seed=1)}]
    of = SyntheticSource(split="train", **SHAPES)
    found = [OneImageSource(**{"split": "train", "of": of, **other}).fingerprint for other in others]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])


@pytest.mark.parametrize(("option", "value"), [("index", 5), ("index", -1), ("count", 0)])
def test_what_does_not_exist_is_refused(option, value):
    with pytest.raises(ConfigError, match=f"{option}={value}"):
        OneImageSource(split="train", of=SyntheticSource(split="train", **SHAPES), **{option: value})
    with pytest.raises(ConfigError, match="split"):
        OneImageSource(split="test")


def test_a_batch_holds_one_picture_and_different_noise():
    config = compose(["experiment=overfit_one_image", "data.global_batch_size=8"])
    images = builders.training_images(config, use="stage2", size=64)
    trainer = SimpleNamespace(world_size=1, num_devices=1)
    data = builders.build_data(config, size=64, trainer=trainer, train_dataset=images)
    numbers = next(iter(data.batches(rank=0, start_step=0)))
    batch = [data.train_dataset[number] for number in numbers]
    assert all(torch.equal(sample["image"], batch[0]["image"]) for sample in batch)
    indices = torch.tensor([sample["index"] for sample in batch])
    noise = normal(sample_keys(0, 0, indices), (4,), Stream.PATH_NOISE)
    assert len({tuple(row.tolist()) for row in noise}) == len(batch) == 8
