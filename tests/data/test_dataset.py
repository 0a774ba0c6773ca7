"""Augmentation by (seed, epoch, index), and corrupt images."""

import logging

import pytest
import torch
from torch.utils.data import DataLoader

from unirae.core.errors import ConfigError, DataError
from unirae.data.dataset import ImageDataset
from unirae.data.decode import BadImageError
from unirae.data.sample_key import SampleKey
from unirae.data.source import Sample
from unirae.data.synthetic import SyntheticSource
from unirae.data.transforms import AdmCenterCrop, ScaleShift


class WithBadImages(SyntheticSource):
    """Synthetic pictures, some of which cannot be read."""

    def __init__(self, count: int, bad: set[int]):
        super().__init__(split="train", image_size=8, train_count=count)
        self.bad = bad

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise BadImageError(f"file{index}.jpg: truncated")
        return super().__getitem__(index)


def dataset(source, **options) -> ImageDataset:
    return ImageDataset(source=source, transform=ScaleShift(size=8), **options)


def test_a_sample_is_a_function_of_seed_epoch_and_index():
    source = WithBadImages(20, set())
    key = SampleKey(3, 5)
    image = dataset(source, seed=1)[key]["image"]
    assert torch.equal(image, dataset(source, seed=1)[key]["image"])
    for other_seed, other_key in [(2, key), (1, SampleKey(3, 6)), (1, SampleKey(4, 5))]:
        assert not torch.equal(image, dataset(source, seed=other_seed)[other_key]["image"])


def test_workers_change_nothing_and_plain_numbers_are_epoch_0():
    data = dataset(WithBadImages(12, set()))
    keys = [[SampleKey(i, 0) for i in range(12)]]
    (alone,) = list(DataLoader(data, batch_sampler=keys))
    batches = list(DataLoader(data, batch_size=4, num_workers=2))
    assert torch.equal(alone["image"], torch.cat([b["image"] for b in batches]))
    assert alone["image"].shape == (12, 3, 8, 8)
    assert alone["image"].dtype == torch.uint8
    assert alone["index"].tolist() == list(range(12))


def test_a_bad_image_is_replaced_counted_and_named_once(caplog):
    data = dataset(WithBadImages(6, {1, 2, 5}))
    with caplog.at_level(logging.WARNING):
        shown = [data[SampleKey(i, epoch)]["index"] for epoch in range(3) for i in range(6)]
    assert shown == [0, 3, 3, 3, 4, 0] * 3
    assert data.bad_image_count == 3
    assert [r.message.count("file") for r in caplog.records] == [1, 1, 1]
    assert "file1.jpg" in caplog.text


def test_what_workers_find_is_counted_here():
    data = dataset(WithBadImages(8, {1, 6}))
    assert sum(len(b["index"]) for b in DataLoader(data, batch_size=2, num_workers=2)) == 8
    assert data.bad_image_count == 2


def test_on_bad_image_error_stops_and_names_the_file():
    data = dataset(WithBadImages(3, {1}), on_bad_image="error")
    data[0]
    with pytest.raises(DataError, match=r"file1\.jpg"):
        data[1]


def test_only_bad_images_end_with_an_error():
    with pytest.raises(DataError, match="unreadable"):
        dataset(WithBadImages(5, set(range(5))))[2]


def test_bad_options_and_numbers():
    with pytest.raises(ConfigError, match="on_bad_image"):
        dataset(WithBadImages(5, set()), on_bad_image="ignore")
    with pytest.raises(IndexError):
        dataset(WithBadImages(5, set()))[5]


def test_a_bug_in_a_source_is_not_taken_for_a_bad_image():
    class Broken(SyntheticSource):
        def __getitem__(self, index):
            raise RuntimeError("bug")

    broken = Broken(split="train", image_size=8)
    with pytest.raises(RuntimeError, match="bug"):
        ImageDataset(source=broken, transform=AdmCenterCrop(size=8))[0]
