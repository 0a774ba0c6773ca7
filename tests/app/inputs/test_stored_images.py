"""What a user may call a set of images: every kind is recognised, every image is there, the rest is refused."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from tiny_shards import sample_members, write_tar
from unirae.app import evaluate, make_reference
from unirae.app.inputs.images import is_reference_file, open_images
from unirae.app.reconstruct import list_images
from unirae.app.shell.devices import choose_data
from unirae.core.errors import ConfigError, DataError
from unirae.core.names import on_one_line
from unirae.data.hf import HFSource


def picture(number: int, size: int = 8) -> Image.Image:
    return Image.new("RGB", (size, size), (number, 10, 255 - number))


def fill(folder, *names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / name)
    return folder


def reds(images):
    return [int(images[i]["image"][0, 0, 0]) for i in range(len(images))]


def names(images):
    return [images.name_of(i) for i in range(len(images))]


@pytest.mark.parametrize(
    "files",
    [
        ("a.png", "b.JPG", "c.webp"),
        ("a/0.png", "a/1.png", "b/0.png"),
        ("x/y/z/0.png", "x/y/z/1.png"),
        ("train/0.png", "train/1.png"),
        ("val/a/0.png", "val/b/1.png"),
    ],
)
def test_a_folder_is_all_of_its_images(tmp_path, files):
    fill(tmp_path, *files)
    (tmp_path / "notes.txt").write_text("no image")
    found = open_images(str(tmp_path))
    assert (found.kind, found.about) == ("folder", {})
    assert names(found.images) == list(files)
    assert found.images.transform.size == (8, 8)
    assert found.images.source.fingerprint["split"] is None


def test_a_table_of_captions_does_not_make_a_folder_a_dataset(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    fill(tmp_path, "train/a.png", "train/b.png")
    pq.write_table(pa.table({"file_name": ["a.png"], "text": ["a"]}), tmp_path / "train/metadata.parquet")
    assert names(open_images(str(tmp_path)).images) == ["train/a.png", "train/b.png"]
    assert choose_data(str(tmp_path), None, {})["source"]["_target_"].endswith("FolderSource")
    with pytest.raises(DataError, match="of image files use FolderSource"):
        HFSource(split="train", data_dir=tmp_path)


def test_the_size_is_that_of_adms_crop(tmp_path):
    fill(tmp_path, "a.png")
    picture(0, 20).save(tmp_path / "b.png")
    images = open_images(str(tmp_path), size=4).images
    assert type(images.transform).__name__ == "AdmCenterCrop"
    assert {tuple(images[i]["image"].shape) for i in range(2)} == {(3, 4, 4)}


def test_of_a_folder_with_splits_one_must_be_named(tmp_path):
    fill(tmp_path, "train/a/0.png", "train/a/1.png", "val/a/2.png")
    with pytest.raises(ConfigError, match=r"holds 3 images, and 2 of them where .* Name the folder that is"):
        open_images(str(tmp_path))
    for split, expected in (("train", ["a/0.png", "a/1.png"]), ("val", ["a/2.png"])):
        images = open_images(str(tmp_path), split=split).images
        assert names(images) == expected
        assert images.source.fingerprint["split"] == split
    with pytest.raises(ConfigError, match=r"there is no folder .*test; name the folder itself"):
        open_images(str(tmp_path), split="test")


def test_tars_are_all_of_their_pictures_unless_they_have_splits(tmp_path):
    for name, start in (("one/s-0", 0), ("one/s-1", 3), ("two/train-0", 0), ("two/val-0", 3)):
        write_tar(tmp_path / f"{name}.tar", sample_members(range(start, start + 3)))
    found = open_images(str(tmp_path / "one"))
    assert (found.kind, reds(found.images)) == ("dataset", [0, 1, 2, 3, 4, 5])
    assert names(found.images)[::5] == ["s-0.tar/0000", "s-1.tar/0005"]
    assert reds(open_images(str(tmp_path / "one/s-1.tar")).images) == [3, 4, 5]
    with pytest.raises(ConfigError, match=r"has no splits; leave out --split val"):
        open_images(str(tmp_path / "one"), split="val")
    with pytest.raises(ConfigError, match=r"has the splits train and val; choose one with --split"):
        open_images(str(tmp_path / "two"))
    found = open_images(str(tmp_path / "two"), split="val")
    assert (reds(found.images), found.images.source.fingerprint["split"]) == ([3, 4, 5], "val")


def test_images_beside_folders_are_taken_with_a_line_as_reconstruct_takes_them(tmp_path, caplog):
    files = ("a/0.png", "b/1.png", "grid.png")
    fill(tmp_path, *files)
    found = open_images(str(tmp_path)).images
    assert names(found) == list(files)
    assert len(list_images([tmp_path])) == len(found)
    said = [line for line in caplog.messages if "beside" in line]
    line = "2 images in its folders and 1 beside them (grid.png) are taken together"
    assert said == [f"{on_one_line(str(tmp_path))}: {line}"] * 2


def test_one_image_beside_many_is_taken_too(tmp_path):
    """Training would leave it out; a score does not."""
    fill(tmp_path, *(f"a/b/{number}.png" for number in range(120)), "beside.png")
    assert len(open_images(str(tmp_path)).images) == 121


def test_one_image_in_a_folder_and_a_strange_name_beside_it(tmp_path, caplog):
    name = os.fsdecode(b"caf\xe9\n.png")
    fill(tmp_path, "a/0.png")
    picture(0, 8).save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / name)
    assert len(open_images(str(tmp_path)).images) == 2
    (said,) = [line for line in caplog.messages if "beside" in line]
    assert said.endswith("1 image in its folders and 1 beside them (caf\\xe9\\n.png) are taken together")


def test_images_beside_splits_leave_it_doubtful_what_is_meant(tmp_path):
    fill(tmp_path, "train/a/0.png", "val/a/1.png", "grid.png")
    with pytest.raises(
        ConfigError, match=r"holds 3 images, and 1 of them .* Name the folder that is meant, or give --split"
    ):
        open_images(str(tmp_path))


def test_folders_that_may_be_splits_are_not_scored_together(tmp_path):
    fill(tmp_path / "known", "Train/0.png", "eval/1.png")
    with pytest.raises(
        ConfigError, match="holds 2 images, and 1 of them where a data set has its training images"
    ):
        open_images(str(tmp_path / "known"))
    fill(tmp_path / "unclear", "my_train/0.png", "my_val/1.png")
    with pytest.raises(
        ConfigError, match=r"look like splits\. Name the folder that is meant, or give --split"
    ):
        open_images(str(tmp_path / "unclear"))
    assert len(open_images(str(tmp_path / "unclear"), split="my_val").images) == 1
    fill(tmp_path / "classes", "00000/0.png", "01000/1.png")
    assert len(open_images(str(tmp_path / "classes")).images) == 2


def samples(folder, *, speaks_of):
    fill(folder, *(f"{i:06d}.png" for i in range(5)), "grid.png")
    record = {"num_samples": speaks_of, "settings": {"cfg_scale": 1.5, "seed": 3}, "label_counts": [2, 3]}
    (folder / "settings.json").write_text(json.dumps(record))
    return str(folder)


def test_samples_come_with_their_sampler_and_without_the_overview(tmp_path):
    found = open_images(samples(tmp_path, speaks_of=5))
    assert names(found.images) == [f"{i:06d}.png" for i in range(5)]
    assert found.about == {"sampler": {"cfg_scale": 1.5, "seed": 3}}


def test_of_samples_only_foreign_files_are_left_out_with_a_line(tmp_path, caplog):
    folder = samples(tmp_path, speaks_of=5)
    (tmp_path / "labels.csv").write_text("file,label,name")
    with caplog.at_level("INFO"):
        open_images(folder)
        assert "left out" not in caplog.text
        (tmp_path / "notes.txt").touch()
        open_images(folder)
    assert "left out 1 other file" in caplog.text


def test_interrupted_sampling_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds 5 samples, .* speaks of 7: sampling was interrupted"):
        open_images(samples(tmp_path, speaks_of=7))


@pytest.mark.parametrize("content", ["not JSON", "[1, 2]", "3", '{"settings": {}}'])
def test_settings_of_another_program_say_nothing(tmp_path, content):
    fill(tmp_path, "000000.png", "grid.png")
    (tmp_path / "settings.json").write_text(content)
    found = open_images(str(tmp_path))
    assert (len(found.images), found.about) == (2, {})


@pytest.mark.parametrize("files", [(), ("a.txt",)])
def test_a_folder_without_images(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match="holds no images"):
        open_images(str(tmp_path))


def rows(count, start=0):
    return {"image": [picture(start + i) for i in range(count)], "label": [0] * count}


@pytest.fixture
def features():
    from datasets import ClassLabel, Features
    from datasets import Image as Picture

    return Features({"image": Picture(), "label": ClassLabel(names=["only"])})


def test_a_data_set_on_disk(tmp_path, features):
    from datasets import Dataset

    Dataset.from_dict(rows(12), features=features).save_to_disk(tmp_path / "plain")
    found = open_images(str(tmp_path / "plain"))
    assert (found.kind, reds(found.images)) == ("dataset", list(range(12)))
    assert found.images.source.fingerprint["split"] == "train"
    with pytest.raises(ConfigError, match=r"--split val: .* has no such split; it has train"):
        open_images(str(tmp_path / "plain"), split="val")


def test_a_data_set_with_splits(tmp_path, features):
    from datasets import Dataset, DatasetDict

    parts = {"train": rows(4), "validation": rows(3, 100), "extra": rows(2, 200)}
    parts = DatasetDict({name: Dataset.from_dict(part, features=features) for name, part in parts.items()})
    parts.save_to_disk(tmp_path / "parts")
    spec = str(tmp_path / "parts")
    with pytest.raises(ConfigError, match="has the splits train, validation, extra; choose one with --split"):
        open_images(spec)
    with pytest.raises(ConfigError, match="has no such split; it has train, validation, extra"):
        open_images(spec, split="val")
    for split, expected in (("train", [0, 1, 2, 3]), ("validation", [100, 101, 102]), ("extra", [200, 201])):
        images = open_images(spec, split=split).images
        assert reds(images) == expected
        assert images.source.fingerprint["split"] == split


@pytest.mark.parametrize("wrong", [None, "test"])
@pytest.mark.parametrize("data", ["dataset", "synthetic"])
def test_an_error_about_a_split_names_the_option_that_chooses_it(tmp_path, features, data, wrong):
    from datasets import Dataset, DatasetDict

    parts = {name: Dataset.from_dict(rows(4), features=features) for name in ("train", "validation")}
    DatasetDict(parts).save_to_disk(tmp_path / "dataset")
    of = str(tmp_path / "dataset") if data == "dataset" else data
    picture(0).save(tmp_path / "image.png")
    images = {"images": str(tmp_path), "device": "cpu", "metrics": "psnr", "size": (16, 16)}
    calls = {
        "--images_split": lambda: evaluate.run(
            evaluate.Options(**images | {"images": of}, images_split=wrong)
        ),
        "--reference_split": lambda: evaluate.run(
            evaluate.Options(**images, reference=of, reference_split=wrong)
        ),
        "--split": lambda: make_reference.run(
            make_reference.Options(data=of, split=wrong, output=tmp_path / "o.npz", device="cpu")
        ),
    }
    for option, call in calls.items():
        said = f"choose one with {option}$" if wrong is None else f"^{option} test: .* has no such split"
        with pytest.raises(ConfigError, match=said):
            call()


def test_parquet(tmp_path, features, monkeypatch):
    import datasets
    from datasets import Dataset

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "part.parquet"
    Dataset.from_dict(rows(3), features=features).to_parquet(file)
    assert reds(open_images(str(file)).images) == [0, 1, 2]
    assert reds(open_images(str(file.parent)).images) == [0, 1, 2]


def test_npz(tmp_path):
    np.savez(tmp_path / "images.npz", np.full((3, 4, 4, 3), 7, np.uint8))
    found = open_images(str(tmp_path / "images.npz"))
    assert (found.kind, reds(found.images)) == ("npz", [7, 7, 7])
    with pytest.raises(ConfigError, match="has no splits; leave out --split val"):
        open_images(str(tmp_path / "images.npz"), split="val")
    with pytest.raises(DataError, match="no such file"):
        open_images(str(tmp_path / "none.npz"))


def test_configured_data():
    found = open_images("synthetic", split="val", size=16)
    assert (found.kind, len(found.images)) == ("dataset", 128)
    assert found.images.source.fingerprint["split"] == "val"
    assert len(open_images("synthetic", split="train", size=16).images) == 1024
    with pytest.raises(ConfigError, match="emoji has the splits train and val; choose one with --split"):
        open_images("emoji")
    emoji = open_images("emoji", split="val").images
    assert emoji.transform.size == (64, 64)
    assert emoji[0]["image"].shape == (3, 64, 64)
    with pytest.raises(ConfigError, match=r"^--split test: emoji has no such split; it has train and val"):
        open_images("emoji", split="test")


@pytest.mark.parametrize("name", ["emojis", "no/such/folder", "default", "pictures.png"])
def test_unknown_names(name):
    with pytest.raises(
        DataError, match=rf"^{name}: there is nothing of that name; expected .*emoji, hf, image_f"
    ):
        open_images(name)


def test_a_hub_name_without_a_network():
    with pytest.raises(DataError, match="cannot read the dataset nobody/nothing"):
        open_images("nobody/nothing")


def test_a_single_picture_is_no_set(tmp_path):
    fill(tmp_path, "a.png")
    with pytest.raises(DataError, match=r"a\.png"):
        open_images(str(tmp_path / "a.png"))


def test_files_of_statistics(tmp_path):
    mean, covariance, images = np.zeros(3), np.eye(3), np.zeros((2, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "moments.npz", mu=mean, sigma=covariance)
    np.savez(tmp_path / "both.npz", images, mu=mean, sigma=covariance)
    np.savez(tmp_path / "ours.npz", about=np.array("{}"))
    np.savez(tmp_path / "images.npz", images)
    (tmp_path / "text.npz").write_text("no zip file")
    for name in ("moments.npz", "both.npz", "ours.npz", "torch.pt"):
        assert is_reference_file(str(tmp_path / name)), name
    for name in ("images.npz", "text.npz", "none.npz", "", "emoji"):
        assert not is_reference_file(str(tmp_path / name)), name
