"""Which folders are splits: known names in any case, questions about others, and classes that are called train."""

import logging

import pytest

from unirae.core.errors import DataError
from unirae.data.listing import Listing, arrange, say_classes
from unirae.data.split_folders import validation_split


def tree(**folders: int) -> list[str]:
    """``a__b=3`` is a/b/0.png to a/b/2.png."""
    return [f"{folder.replace('__', '/')}/{i}.png" for folder, count in folders.items() for i in range(count)]


def read(paths, **options) -> Listing:
    return arrange(paths, val_fraction=0.1, where="here", **options)


def counts(listing: Listing) -> tuple[int, int]:
    return len(listing.train), len(listing.val)


TRAIN = ["train", "training", "Train", "TRAIN", "train2017", "train_256", "Train-256px"]
VAL = ["val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation", "holdout"]
VAL += ["Val", "TEST", "val2017", "test_64", "Eval256"]


@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize("val", VAL)
def test_the_usual_names_in_any_case(train, val):
    listing = read(tree(**{f"{train}__cat": 8, f"{train}__dog": 8, f"{val}__cat": 3, f"{val}__dog": 3}))
    assert listing.class_names == ("cat", "dog")
    assert counts(listing) == (16, 6)
    assert {entry.path.split("/")[0] for entry in listing.val} == {val}
    assert {(e.path.split("/")[1], e.label) for e in listing.val} == {("cat", 0), ("dog", 1)}


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "val_images"),
        ("my_train", "my_val"),
        ("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
        ("trainA", "testA", "trainB", "testB"),
        ("train1", "train2", "val"),
        ("train2014", "train2017", "val2017"),
        ("Train", "train", "val"),
        ("train", "val2014", "val2017"),
        ("val", "test"),
        ("train", "extra"),
        ("car", "train"),
        ("TrainSet", "pictures"),
        ("test_images",),
    ],
)
def test_what_is_not_understood_is_asked_about(names):
    for below in ("", "__cat"):
        if below and len(names) == 1:
            continue  # it wraps the classes
        with pytest.raises(
            DataError, match=r"are not understood.* by train_split=NAME and val_split=NAME;"
        ) as error:
            read(tree(**{f"{name}{below}": 4 for name in names}))
        assert "\n" not in str(error.value)


def test_the_answers():
    paths = tree(my_train__cat=8, my_train__dog=8, my_val__cat=3, more__cat=5)
    listing = read(paths, train_split="my_train", val_split="my_val")
    assert counts(listing) == (16, 3)
    assert listing.class_names == ("cat", "dog")
    assert listing.other_folders == {"more": 5}
    assert counts(read(paths, train_split="my_train")) == (14, 2)
    assert read(tree(car=10, train=10), train_split=".").class_names == ("car", "train")
    assert counts(read(tree(a__my__x=5, a__my__y=5), train_split="my")) == (9, 1)
    with pytest.raises(DataError, match="no folder 'vall' with images; it has more, my_train, my_val"):
        read(paths, train_split="my_train", val_split="vall")


@pytest.mark.parametrize("name", ["train", "test_tube", "valid", "Evaluation"])
def test_a_class_of_that_name_among_others(name):
    """As CIFAR-100 and VOC have one."""
    listing = read(tree(**{name: 4, "apple": 4, "bear": 4, "cloud": 4}))
    assert sorted(listing.class_names) == sorted([name, "apple", "bear", "cloud"])
    assert sum(counts(listing)) == 16


def test_folders_beside_the_splits_are_left_out_and_counted(caplog):
    listing = read(tree(train__cat=8, val__cat=3, test__cat=5, extra=2, train_more__cat=1))
    assert counts(listing) == (8, 3)
    assert listing.other_folders == {"extra": 2, "test": 5, "train_more": 1}
    assert "left out 'extra' (2 images), 'test' (5 images), 'train_more' (1 image)" in caplog.text


def test_val_is_preferred_to_test():
    assert {e.path[:3] for e in read(tree(train__a=4, test__a=2, val__a=3)).val} == {"val"}


def test_splits_that_hold_less_than_what_lies_beside_are_asked_about():
    with pytest.raises(DataError, match="not understood"):
        read(tree(train=2, test=2, **{f"kind{i}": 5 for i in range(9)}))


def test_one_split_alone_holds_all():
    for name in ("train", "val"):
        flat = read(tree(**{name: 10}))
        assert flat.class_names == ()
        assert sum(counts(flat)) == 10
        assert read(tree(**{f"{name}__cat": 5, f"{name}__dog": 5})).class_names == ("cat", "dog")


def test_splits_below_classes_are_refused():
    """The validation images would be trained on."""
    paths = tree(cat__train=8, cat__val=3, dog__train=8, dog__val=3)
    with pytest.raises(
        DataError, match="'train', 'val' below 'cat', 'dog': splits must lie above the classes"
    ):
        read(paths)
    with pytest.raises(DataError, match="'train', 'val' below 'cat', 'dog'"):
        read(paths, labels=False)


def test_splits_without_labels():
    listing = read(tree(train__cat=8, train__dog=8, val=3), labels=False)
    assert counts(listing) == (16, 3)
    assert listing.class_names == ()
    with pytest.raises(DataError, match=r"no class folders.*labels=False"):
        read(tree(train__cat=8, train__dog=8, val=3))


def test_shards_are_no_classes(caplog):
    caplog.set_level(logging.INFO)
    shards = tree(**{"00000": 12, "01000": 12})
    assert read(shards).class_names == ("00000", "01000")
    flat = read(shards, labels=False)
    assert flat.class_names == ()
    assert counts(flat) == (22, 2)
    assert {entry.label for entry in flat.train} == {-1}
    say_classes("shards", ("00000", "01000"))
    assert "2 classes: 00000, 01000 (if these are no classes but shards: labels=False" in caplog.text
    say_classes("digits", tuple("0123456789"))
    assert "10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n" in caplog.text
    say_classes("many", tuple(f"class{i}" for i in range(40)))
    assert "40 classes: class0, class1, " in caplog.text
    assert "class11 and 28 more\n" in caplog.text


@pytest.mark.parametrize(("strays", "inside"), [(30, 3), (1, 10), (2, 100)])
def test_images_outside_of_class_folders_are_a_question(strays, inside):
    paths = [f"IMG_{i}.jpg" for i in range(strays)] + tree(rejected=inside)
    with pytest.raises(
        DataError, match=rf"{strays} images? outside of .* 'rejected', with {inside} inside "
    ) as e:
        read(paths)
    assert "without classes: labels=False" in str(e.value)
    assert sum(counts(read(paths, labels=False))) == strays + inside


def test_a_few_of_them_are_left_out(caplog):
    listing = read(["preview.jpg", *tree(cat=100, dog=99)])
    assert sum(counts(listing)) == 199
    assert listing.strays == ("preview.jpg",)
    assert "left out 1 image outside of the class folders 'cat', 'dog': preview.jpg" in caplog.text


def test_a_few_of_them_do_not_hide_the_classes():
    for stray in ("preview.jpg", "data/preview.jpg"):
        listing = read([stray, *tree(data__cat=100, data__dog=99)])
        assert listing.class_names == ("cat", "dog")
        assert listing.strays == (stray,)


def test_images_beside_the_split_folders_are_a_question():
    with pytest.raises(DataError, match=r"9 images outside of the split folders 'train', 'val', with 11"):
        read([f"{i}.png" for i in range(9)] + tree(train__a=8, val__a=3))


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["train", "test"], "test"),
        (["train", "test", "validation"], "validation"),
        (["train", "Dev"], "Dev"),
        (["train", "eval", "unsupervised"], "eval"),
        (["train", "unsupervised"], None),
    ],
)
def test_the_validation_split_of_a_data_set_has_the_same_names(names, wanted):
    assert validation_split(names) == wanted


def test_two_validation_splits_are_asked_about():
    with pytest.raises(DataError, match=r"which of val2014, val2017 is the validation split: val_split=NAME"):
        validation_split(["train", "val2014", "val2017"])


@pytest.mark.parametrize(
    "folders",
    [
        [f"{animal}__{split}" for animal in ("cat", "dog") for split in ("train", "val", "unlabelled")],
        [f"{animal}__{split}" for animal in ("cat", "dog") for split in ("train", "val_v2")],
        ["images__train", "images__val", "labels__x"],
    ],
)
@pytest.mark.parametrize("labels", [True, False])
def test_splits_below_classes_are_refused_whatever_lies_beside(folders, labels):
    paths = tree(**dict.fromkeys(folders, 4))
    with pytest.raises(DataError, match="splits must lie above the classes"):
        read(paths, labels=labels)
    assert counts(read(paths, labels=labels, train_split=".")) == counts(read(tree(all=len(paths))))


def test_one_folder_cannot_be_both_splits():
    with pytest.raises(DataError, match="'a' is both the training and the validation split"):
        read(tree(a__cat=4, b__cat=4), train_split="a", val_split="a")
    with pytest.raises(DataError, match="say which is which"):
        read(tree(train__cat=4, b__cat=4), val_split="train")


def test_images_beside_the_folder_of_all_others_are_left_out_with_a_line(caplog):
    caplog.set_level(logging.INFO)
    listing = read(["beside_the_wrap.png", *tree(data__a=60, data__b=60)])
    assert (listing.class_names, sum(counts(listing)), listing.strays) == (
        ("a", "b"),
        120,
        ("beside_the_wrap.png",),
    )
    assert "left out 1 image outside of the folder 'data': beside_the_wrap.png" in caplog.text


@pytest.mark.parametrize("labels", [True, False])
def test_the_remedy_that_is_named_takes_every_image(labels):
    """Beside splits labels=False alone takes no more of them; beside a folder that wraps all others it does."""
    beside_splits = [f"{i}.png" for i in range(9)] + tree(train__a=8, val__a=3)
    with pytest.raises(DataError, match=r"without classes: train_split=\. labels=False$"):
        read(beside_splits, labels=labels)
    wrapped = ["beside.png", *tree(data__a=100, data__b=99)]
    for paths in (beside_splits, wrapped):
        listing = read(paths, labels=False, train_split=".")
        assert sum(counts(listing)) == len(paths)
        assert listing.strays == ()
    assert sum(counts(read(wrapped, labels=False))) == len(wrapped)
    with pytest.raises(
        DataError, match=r"3 images outside of the class folders 'data', .* classes: labels=False$"
    ):
        read([*wrapped, "2.png", "3.png"])
