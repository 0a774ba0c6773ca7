"""Images that are scored as they are: every one counts, and what is wrong with one names it."""

import numpy as np
import pytest
import torch
from PIL import Image

from unirae.core.errors import DataError
from unirae.data.folder import FolderSource
from unirae.data.npz import NpzSource
from unirae.data.stored import StoredImages
from unirae.data.transforms import AdmCenterCrop


def picture(number: int, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new("RGB", size, (number, 2 * number, 255 - number))


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        file = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.v1.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    return tmp_path / "pictures"


def of_folder(folder, **options):
    return StoredImages(FolderSource(split="train", data_dir=folder, val_fraction=0.0), **options)


def test_every_picture_once_in_order(folder):
    images = of_folder(folder)
    assert len(images) == 4
    assert images.transform.size == (4, 6)
    items = [images[i] for i in range(4)]
    assert [item["image"][0, 0, 0].item() for item in items] == [0, 2, 1, 3]
    assert [(item["label"], item["index"]) for item in items] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert {tuple(item["image"].shape) for item in items} == {(3, 4, 6)}


def test_names(folder, tmp_path):
    images = of_folder(folder)
    assert (images.name_of(2), images.stem_of(2)) == ("b/1.v1.png", "b/1.v1")
    np.savez(tmp_path / "images.npz", np.zeros((3, 4, 4, 3), np.uint8))
    images = StoredImages(NpzSource(tmp_path / "images.npz"))
    assert (images.name_of(2), images.stem_of(2)) == ("npz, image 2", None)


def test_another_size_names_the_file_and_the_remedy(folder):
    picture(9, (8, 4)).save(folder / "b/9.png")
    images = of_folder(folder)
    assert images[2]["index"] == 2
    with pytest.raises(
        DataError, match=r"b/9\.png: it has 4×8 px \(height, width\), the first has 4×6; .*size=N"
    ):
        _ = images[4]


def test_a_crop_takes_every_size(folder):
    picture(9, (30, 40)).save(folder / "b/9.png")
    images = of_folder(folder, transform=AdmCenterCrop(size=4))
    assert {tuple(images[i]["image"].shape) for i in range(5)} == {(3, 4, 4)}


@pytest.mark.parametrize("number", [0, 3])
def test_a_picture_that_cannot_be_read_is_named_and_not_replaced(folder, number):
    name = ["a/0.v1.png", None, None, "b/3.v1.png"][number]
    (folder / str(name)).write_bytes(b"no picture")
    with pytest.raises(DataError, match=rf"^{name} cannot be read: .*not an image. Mend or remove it"):
        _ = of_folder(folder)[number]


@pytest.mark.parametrize("crop", [True, False])
def test_where_it_is_asked_for_the_next_readable_picture_stands_in(folder, caplog, crop):
    (folder / "a/0.v1.png").write_bytes(b"no picture")
    transform = AdmCenterCrop(size=4) if crop else None
    images = of_folder(folder, transform=transform, replace_unreadable=True)
    assert [images[i]["index"] for i in range(4)] == [1, 1, 2, 3]
    assert torch.equal(images[0]["image"], images[1]["image"])
    (line,) = caplog.messages
    assert "replaced unreadable image 0 (" in line


def test_damage_shows_with_a_crop_too(folder):
    content = (folder / "a/0.v1.png").read_bytes()
    (folder / "a/0.v1.png").write_bytes(content[:-30])
    with pytest.raises(DataError, match=r"a/0\.v1\.png cannot be read"):
        _ = of_folder(folder, transform=AdmCenterCrop(size=4))[0]


def test_nothing_to_score(tmp_path):
    np.savez(tmp_path / "images.npz", np.zeros((0, 4, 4, 3), np.uint8))
    with pytest.raises(DataError, match="npz has no images"):
        StoredImages(NpzSource(tmp_path / "images.npz"))
