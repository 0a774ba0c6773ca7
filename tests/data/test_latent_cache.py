"""Reading a latent cache: the views, labels and replacements of the images, in any process, and nothing stale.

The caches here are written by hand: latents that say which image and view they are.
"""

import os
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tiny_latents import pictures
from unirae.core.errors import ConfigError, DataError, UserError
from unirae.core.io import write_json
from unirae.data.cache_plan import INDEX, SAMPLES, CachePlan, shard_files
from unirae.data.latent_cache import CachedLatents, LatentCache, require_views
from unirae.data.sample_key import SampleKey
from unirae.data.transforms import AdmCenterCrop, AdmCropFlip, ScaleShift, Stage1Transform

KEY = {"encoder": {"sha256": "a" * 64}, "transform": {"name": "AdmCropFlip", "views": 2}, "dtype": "float16"}
COUNT = 23


def write_cache(folder, key=KEY, *, dtype="float16"):
    """23 images in shards of 10; element values are image + view/2."""
    plan = CachePlan(
        key=key, count=COUNT, shard_images=10, shape=(2, 3, 2, 2), dtype=dtype, class_names=("a", "b", "c")
    )
    folder.mkdir()
    for shard, images in enumerate(plan.shards):
        latents = np.stack([np.full((2, 3, 2, 2), i, dtype) for i in images])
        latents[:, 1] += 0.5
        np.save(shard_files(folder, shard)[0], latents)
        write_json(shard_files(folder, shard)[1], {})
    np.save(folder / SAMPLES, np.array([[i % 3, i] for i in range(COUNT)]))
    write_json(folder / INDEX, plan.to_dict())
    return folder


def test_views_are_those_of_the_images(tmp_path):
    """In every epoch, with the same seed; with another seed they differ."""
    images = pictures(COUNT, seed=5)
    latents = CachedLatents(
        cache=LatentCache(write_cache(tmp_path / "c"), KEY), transform=images.transform, seed=5
    )
    crop, flipped = AdmCenterCrop(size=32), []
    for epoch in range(4):
        for i in range(COUNT):
            key = SampleKey(i, epoch)
            image, sample = images[key]["image"], latents[key]
            plain = crop(images.source[i].image)
            view = 2 * (float(sample["latent"][0, 0, 0]) - i)
            assert torch.equal(image, plain.flip(-1) if view else plain)
            assert (sample["index"], sample["label"]) == (i, i % 3)
            flipped.append(view)
    assert 20 < sum(flipped) < 72
    other = CachedLatents(cache=latents.cache, transform=images.transform, seed=6)
    keys = [SampleKey(i, 0) for i in range(COUNT)]
    assert any(not torch.equal(other[key]["latent"], latents[key]["latent"]) for key in keys)
    assert torch.equal(latents[3]["latent"], latents[SampleKey(3, 0)]["latent"])


def test_what_it_says_of_itself(tmp_path):
    cache = LatentCache(write_cache(tmp_path / "c"), KEY)
    latents = CachedLatents(cache=cache, transform=AdmCropFlip(size=32), seed=0)
    assert (len(latents), latents.num_classes, latents.class_names) == (COUNT, 3, ("a", "b", "c"))
    assert latents[22]["latent"].dtype == torch.float32
    assert latents[22]["latent"].shape == (3, 2, 2)
    assert cache.labels.tolist() == [i % 3 for i in range(COUNT)]
    for index in (-1, COUNT):
        with pytest.raises(IndexError, match="of 23"):
            latents[index]


def test_shards_are_opened_when_read_and_not_pickled(tmp_path):
    cache = LatentCache(write_cache(tmp_path / "c"), KEY)
    assert cache._shards == {}
    assert float(cache.latent(12, 1)[0, 0, 0]) == 12.5
    assert list(cache._shards) == [1]
    again = pickle.loads(pickle.dumps(cache))
    assert again._shards == {}
    assert torch.equal(again.latent(22, 0), cache.latent(22, 0))


def test_only_the_shards_used_last_stay_open(tmp_path, monkeypatch):
    """A mapped file holds a descriptor, and a process may have few."""
    monkeypatch.setattr("unirae.data.latent_cache._OPEN_SHARDS", 2)
    cache = LatentCache(write_cache(tmp_path / "c"), KEY)
    before = len(os.listdir("/dev/fd"))
    for index, still_open in ((0, [0]), (10, [0, 1]), (1, [1, 0]), (20, [0, 2]), (11, [2, 1])):
        assert float(cache.latent(index, 0)[0, 0, 0]) == index
        assert list(cache._shards) == still_open
    assert len(os.listdir("/dev/fd")) == before + 2


def test_a_plan_counts_its_shards_once(tmp_path):
    """Opening asks for each shard, and ImageNet has thousands: counting all of them each time would be quadratic."""
    plan = CachePlan(key=KEY, count=COUNT, shard_images=10, shape=(2, 3, 2, 2), dtype="float16")
    assert plan.shards == [range(10), range(10, 20), range(20, 23)]
    assert plan.shards is plan.shards
    write_json(tmp_path / INDEX, plan.to_dict())
    assert CachePlan.read(tmp_path / INDEX) == plan


def test_workers_change_nothing(tmp_path):
    cache = LatentCache(write_cache(tmp_path / "c"), KEY)
    latents = CachedLatents(cache=cache, transform=AdmCropFlip(size=32), seed=0)
    keys = [[SampleKey(i, 1) for i in range(k, COUNT, 4)] for k in range(4)]
    alone, shared = (list(DataLoader(latents, batch_sampler=keys, num_workers=n)) for n in (0, 2))
    for one, other in zip(alone, shared, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("latent", "label", "index"))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (KEY | {"encoder": {"sha256": "b" * 64}}, r"encoder\.sha256 is a{12}… there and b{12}… here"),
        (KEY | {"transform": {"name": "AdmCropFlip", "views": 1}}, r"transform\.views is 2 there and 1 here"),
        (KEY | {"dtype": "float32"}, "dtype is float16 there and float32 here"),
        (KEY | {"new": 1}, "new is None there and 1 here"),
        ({k: v for k, v in KEY.items() if k != "dtype"}, "dtype is float16 there and None here"),
    ],
)
def test_another_key_is_refused_with_the_difference_and_the_remedy(tmp_path, key, message):
    folder = write_cache(tmp_path / "c")
    with pytest.raises(ConfigError, match=message) as caught:
        LatentCache(folder, key)
    assert "Choose another folder" in str(caught.value)
    assert str(caught.value).count(" there and ") == 1
    LatentCache(folder, {**KEY, "transform": dict(reversed(KEY["transform"].items()))})


def test_unfinished_and_damaged_caches_are_refused(tmp_path):
    with pytest.raises(DataError, match="no finished latent cache"):
        LatentCache(tmp_path, KEY)
    folder = write_cache(tmp_path / "c")
    shard = shard_files(folder, 1)[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-2])
    with pytest.raises(DataError, match=r"1 of its files .* such as 00001\.npy\. Remove index\.json"):
        LatentCache(folder, KEY)
    shard.unlink()
    (folder / SAMPLES).unlink()
    with pytest.raises(DataError, match="2 of its files"):
        LatentCache(folder, KEY)
    write_json(folder / INDEX, {"something": "else"})
    with pytest.raises(DataError, match="does not belong to a latent cache"):
        LatentCache(folder, KEY)
    (folder / INDEX).write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        LatentCache(folder, KEY)


@pytest.mark.parametrize("make", [ScaleShift, Stage1Transform])
def test_random_transforms_are_refused_with_a_way_out(make):
    with pytest.raises(ConfigError, match=f"what {make.__name__} gives.*AdmCropFlip.*AdmCenterCrop"):
        require_views(make(size=8))
