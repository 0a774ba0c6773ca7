"""Labels of Hugging Face data sets: one numbering over all splits, and rows without a label."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pictures

from unirae.core.errors import DataError
from unirae.data.hf import HFSource

GREY = {"a": 10, "b": 20, "c": 30}


def table(kinds, labels, feature):
    """A picture's grey value says which class it is."""
    pictures = [Pictures.fromarray(np.full((8, 8, 3), GREY[kind], np.uint8)) for kind in kinds]
    return Dataset.from_dict(
        {"image": pictures, "label": labels}, features=Features({"image": Image(), "label": feature})
    )


def named(kinds, names):
    return table(kinds, [names.index(kind) for kind in kinds], ClassLabel(names=list(names)))


def save(folder, **splits):
    DatasetDict(**splits).save_to_disk(folder / "d")
    return {name: HFSource(split=name, data_dir=folder / "d") for name in ("train", "val")}


def shown(source):
    """Class names by what the pictures show."""
    kinds = {value: kind for kind, value in GREY.items()}
    samples = [source[i] for i in range(len(source))]
    return {(kinds[s.image.getpixel((0, 0))[0]], source.class_names[s.label]) for s in samples}


def test_classes_are_matched_by_name_where_a_split_numbers_them_otherwise(tmp_path):
    found = save(tmp_path, train=named("abcabc", "abc"), validation=named("abccba", "cab"))
    assert found["val"].class_names == found["train"].class_names == ("a", "b", "c")
    assert shown(found["val"]) == shown(found["train"]) == {("a", "a"), ("b", "b"), ("c", "c")}


def test_a_class_that_training_lacks_is_named(tmp_path):
    with pytest.raises(DataError, match=r"split 'validation' has images of 'c'.*its classes are 'a', 'b'"):
        save(tmp_path, train=named("abab", "ab"), validation=named("abc", "abc"))


def test_a_class_that_has_only_a_name_is_none(tmp_path):
    found = save(tmp_path, train=named("abab", "ab"), validation=named("abba", "bac"))
    assert shown(found["val"]) == {("a", "a"), ("b", "b")}


@pytest.mark.parametrize("none", [None, -1])
def test_rows_without_a_label_are_left_out_with_a_count(tmp_path, caplog, none):
    labels = [none if i == 5 else i % 3 for i in range(36)]
    data = table("abc" * 12, labels, ClassLabel(names=list("abc")))
    found = save(tmp_path, train=data)
    assert len(found["train"]) + len(found["val"]) == 35
    assert shown(found["train"]) == {("a", "a"), ("b", "b"), ("c", "c")}
    assert "1 of the 32 images of split 'train' have no label" in caplog.text


def test_a_split_without_any_label_is_read_without(tmp_path, caplog):
    test = table("abcabc", [-1] * 6, ClassLabel(names=list("abc")))
    found = save(tmp_path, train=named("abc" * 4, "abc"), test=test)
    assert (len(found["val"]), found["val"].class_names, found["val"][3].label) == (6, (), 0)
    assert "no image of split 'test' has a label" in caplog.text


def test_numbers_that_leave_most_classes_empty_are_numbered_anew(tmp_path, caplog):
    data = table("ab" * 10, [0, 10_000_000] * 10, Value("int64"))
    found = save(tmp_path, train=data)
    assert found["train"].class_names == found["val"].class_names == ("0", "10000000")
    assert shown(found["train"]) == {("a", "0"), ("b", "10000000")}
    assert "they are numbered anew, 0 to 1" in caplog.text


def test_negative_numbers_are_classes_but_for_minus_one(tmp_path):
    found = save(tmp_path, train=table("abc" * 8, [-7, 3, -1] * 8, Value("int64")))
    assert found["train"].class_names == ("-7", "3")
    assert shown(found["train"]) == {("a", "-7"), ("b", "3")}


def test_plain_numbers_with_a_gap_keep_their_numbers(tmp_path):
    found = save(tmp_path, train=table("abc" * 8, [0, 1, 4] * 8, Value("int64")))
    assert found["train"].class_names == ("0", "1", "2", "3", "4")
    assert shown(found["train"]) == {("a", "0"), ("b", "1"), ("c", "4")}


def test_texts_are_names_and_captions_are_refused(tmp_path):
    found = save(tmp_path, train=table("abc" * 8, ["x", "y", "z"] * 8, Value("string")))
    assert shown(found["train"]) == {("a", "x"), ("b", "y"), ("c", "z")}
    captions = Dataset.from_dict(
        {
            "image": [Pictures.new("RGB", (2, 2))] * 1100,
            "label": [f"a photo, number {i}" for i in range(1100)],
        }
    )
    captions.save_to_disk(tmp_path / "captions")
    with pytest.raises(DataError, match=r"1.100|1100 different texts"):
        HFSource(split="train", data_dir=tmp_path / "captions", val_fraction=0)


def test_no_rows_are_one_line(tmp_path):
    named("abc", "abc").select([]).save_to_disk(tmp_path / "empty")
    with pytest.raises(DataError, match="empty: the data set, or a split of it, holds no rows"):
        HFSource(split="train", data_dir=tmp_path / "empty")
    with pytest.raises(DataError, match="or a split of it, holds no rows"):
        save(tmp_path, train=named("abc", "abc").select([]), validation=named("abc", "abc"))


@pytest.mark.parametrize("feature", [ClassLabel(names=list("abc")), Value("int64")])
def test_a_class_that_training_has_no_image_of_is_named(tmp_path, feature):
    unseen = "b" if isinstance(feature, ClassLabel) else "1"
    with pytest.raises(
        DataError, match=rf"split 'validation' has images of '{unseen}'.*training split has none"
    ):
        save(tmp_path, train=table("acac", [0, 2, 0, 2], feature), validation=table("bb", [1, 1], feature))


def test_a_few_large_numbers_make_few_classes(tmp_path):
    found = save(tmp_path, train=table("ab" * 10, [0, 950] * 10, Value("int64")))
    assert found["train"].class_names == ("0", "950")
    assert shown(found["train"]) == {("a", "0"), ("b", "950")}


def test_the_training_split_is_no_validation_split(tmp_path):
    DatasetDict(train=named("abab", "ab"), test=named("ab", "ab")).save_to_disk(tmp_path / "d")
    with pytest.raises(DataError, match="'train' is both the training and the validation split"):
        HFSource(split="val", data_dir=tmp_path / "d", val_split="train")
