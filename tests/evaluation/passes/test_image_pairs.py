"""Which image belongs to which original: by names, or by numbers, and never by an order that nobody meant."""

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from unirae.core.errors import DataError
from unirae.data.folder import FolderSource
from unirae.data.hf import HFSource
from unirae.data.npz import NpzSource
from unirae.data.prepare import prepare
from unirae.data.stored import StoredImages
from unirae.evaluation.passes.image_pairs import by_number, find_pairs
from unirae.evaluation.scores.stored import Reading, score_pairs
from unirae.metrics.pixel import mean_psnr


def saved(folder, names, pixels):
    for name, image in zip(names, pixels, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return StoredImages(FolderSource(split="train", data_dir=folder, val_fraction=0, labels=False))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)


def as_npz(path, pixels):
    np.savez(path, pixels)
    return StoredImages(NpzSource(path))


def noisy(pixels):
    noise = np.random.default_rng(1).integers(-20, 20, pixels.shape)
    return (pixels.astype(int) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_folder_and_a_file_are_paired_by_numbers(tmp_path, pixels, swapped):
    """Of names as text, 10.png would stand before 2.png."""
    first = saved(tmp_path / "a", [f"{i}.png" for i in range(24)], pixels)
    second = as_npz(tmp_path / "b.npz", noisy(pixels))
    sides = (second, first) if swapped else (first, second)
    result = score_pairs(*sides, of_pairs=[mean_psnr()], reading=Reading(batch_size=5))
    errors = np.square(pixels.astype(float) - noisy(pixels)).mean((1, 2, 3))
    assert result.estimates["psnr"].value == pytest.approx(np.mean(10 * np.log10(255**2 / errors)), abs=1e-4)
    assert 26 < result.estimates["psnr"].value < 28
    assert result.settings["images"]["paired_by"] == "numbers"


def test_a_subset_is_of_the_same_pairs(tmp_path, pixels):
    first = saved(tmp_path / "a", [f"{i}.png" for i in range(24)], pixels)
    second = as_npz(tmp_path / "b.npz", noisy(pixels))
    result = score_pairs(first, second, of_pairs=[mean_psnr()], reading=Reading(num_samples=7, seed=3))
    assert 26 < result.estimates["psnr"].value < 28


def test_folders_are_paired_by_names_whatever_their_suffixes(tmp_path, pixels):
    names = ["a.b", "a", "sub/c", "a-1"]
    first = saved(tmp_path / "a", [f"{name}.png" for name in names], pixels[:4])
    second = saved(tmp_path / "b", [f"{name}.bmp" for name in names], pixels[:4])
    result = score_pairs(first, second, of_pairs=[mean_psnr()], reading=Reading())
    assert result.estimates["psnr"].value == 100.0
    assert result.settings["images"]["paired_by"] == "names"


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["x10y", "x2y", "x1y"], [2, 1, 0]),
        (["000", "010", "100"], [0, 1, 2]),
        (["099", "100", "1000"], [0, 1, 2]),
        (["v2_10", "v2_9"], [1, 0]),
        (["alone"], [0]),
    ],
)
def test_numbers_in_names(names, order):
    assert by_number(names) == order


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["cat", "dog"], "do not differ in one number alone"),
        (["a1", "b2"], "do not differ in one number alone"),
        (["1_2", "2_1"], "do not differ in one number alone"),
        (["a/1", "b/1"], "do not differ in one number alone"),
        (["1", "1-copy"], "do not differ in one number alone"),
        (["1", "02", "3"], "some are padded"),
        (["001", "02"], "some are padded"),
    ],
)
def test_an_order_that_is_not_certain_is_refused(names, why):
    with pytest.raises(DataError, match=why):
        by_number(names)


def test_other_names_or_counts_are_refused(tmp_path, pixels):
    first = saved(tmp_path / "a", ["1.png", "2.png"], pixels[:2])
    with pytest.raises(DataError, match=r"no original is called 2 .*for example, 3"):
        find_pairs(first, saved(tmp_path / "b", ["1.png", "3.png"], pixels[:2]))
    with pytest.raises(DataError, match="2 images and 3 originals make no pairs"):
        find_pairs(first, as_npz(tmp_path / "b.npz", pixels[:3]))
    twice = saved(tmp_path / "c", ["1.png", "1.bmp"], pixels[:2])
    with pytest.raises(DataError, match="two of the images are called 1"):
        find_pairs(twice, first)


def test_a_folder_and_its_prepared_data_set_are_paired_by_the_stored_names(tmp_path, pixels):
    """Rows stand in the order of text: 0, 1, 10, 11, …"""
    folder = saved(tmp_path / "a", [f"{i}.png" for i in range(24)], pixels)
    prepare(source=tmp_path / "a", output=tmp_path / "hf", val_fraction=0, labels=False)
    rows = StoredImages(HFSource(split="train", data_dir=tmp_path / "hf", val_fraction=0))
    for first, second in ((folder, rows), (rows, folder)):
        pairs = find_pairs(first, second)
        assert pairs.by == "names"
        for i, k in zip(pairs.images, pairs.originals, strict=True):
            assert first[i]["image"].equal(second[k]["image"])
    held_in = StoredImages(HFSource(split="train", data_dir=tmp_path / "hf", val_fraction=0.5))
    assert [held_in[i]["image"].tolist() for i in range(3)] == [
        pixels[int(held_in.stem_of(i) or -1)].transpose(2, 0, 1).tolist() for i in range(3)
    ]
    assert find_pairs(rows, as_npz(tmp_path / "of_rows.npz", pixels)).by == "order"


def test_rows_without_names_need_an_order_that_is_certain(tmp_path, pixels):
    Dataset.from_dict({"image": [Image.fromarray(image) for image in pixels]}).save_to_disk(tmp_path / "hf")
    rows = StoredImages(HFSource(split="train", data_dir=tmp_path / "hf", val_fraction=0))
    with pytest.raises(DataError, match="another order by number than as text"):
        find_pairs(saved(tmp_path / "a", [f"{i}.png" for i in range(24)], pixels), rows)
    padded = saved(tmp_path / "b", [f"{i:02d}.png" for i in range(24)], pixels)
    pairs = find_pairs(padded, rows)
    assert (pairs.by, pairs.images, pairs.originals) == ("numbers", list(range(24)), list(range(24)))
