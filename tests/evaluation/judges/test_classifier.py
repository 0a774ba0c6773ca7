"""The judge of samples: it learns, it is a function of data and seed, it counts right, and it survives a file."""

import os
from dataclasses import asdict, replace

import pytest
import torch

from unirae.core.errors import DataError, WeightsError
from unirae.core.io import load_tensors
from unirae.evaluation.judges.classifier import (
    ClassifierSettings,
    Judgement,
    PixelClassifier,
    assign,
    judge,
    load_classifier,
    save_classifier,
    train_classifier,
)
from unirae.evaluation.passes.image_set import LabelledImages, mislabelled

QUICK = ClassifierSettings(width=8, pool=1, epochs=6, batch_size=16, warmup_steps=4, learning_rate=1e-2)


def squares(count: int, seed: int) -> LabelledImages:
    """White pictures with a square in one of three colours, which is the class, at any place."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.full((count, 3, 16, 16), 255, dtype=torch.uint8)
    labels = torch.arange(count) % 3
    for image, label in zip(images, labels, strict=True):
        top, left = torch.randint(0, 8, (2,), generator=draws).tolist()
        image[:, top : top + 7, left : left + 7] = 0
        image[label, top : top + 7, left : left + 7] = 200
    return LabelledImages(images=images, labels=labels)


@pytest.fixture(scope="module")
def trained() -> PixelClassifier:
    return train_classifier(squares(96, seed=0), num_classes=3, settings=QUICK)


def test_it_learns_what_can_be_learned(trained):
    judged = judge(trained, squares(60, seed=1))
    assert judged.share > 0.9
    assert judged.count == 60
    assert [sum(row) for row in judged.confusion] == [20, 20, 20]


def test_wrong_labels_are_not_recognised(trained):
    data = squares(60, seed=1)
    assert judge(trained, mislabelled(data)).share < 0.1


def test_training_is_a_function_of_data_and_seed():
    short, data = replace(QUICK, epochs=1), squares(32, seed=0)
    before = torch.get_rng_state()
    first, again = (train_classifier(data, num_classes=3, settings=short).state_dict() for _ in range(2))
    other = train_classifier(data, num_classes=3, settings=replace(short, seed=1)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.1.weight"], other["head.1.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_counts_steps():
    seen = []
    train_classifier(
        squares(40, seed=0),
        num_classes=3,
        settings=replace(QUICK, epochs=2),
        progress=lambda *step: seen.append(step),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]  # the half batch of each epoch is left out


def test_the_batch_does_not_matter(trained):
    images = squares(40, seed=2).images
    assert torch.equal(assign(trained, images), torch.cat([assign(trained, one[None]) for one in images]))


def test_share_and_error_of_a_judgement():
    judged = Judgement(confusion=((3, 1), (2, 4)))
    assert judged.count == 10
    assert judged.share == pytest.approx(0.7)
    assert judged.standard_error == pytest.approx((0.7 * 0.3 / 10) ** 0.5)


def test_confusion_is_wanted_by_assigned(trained):
    data = squares(30, seed=3)
    assigned = assign(trained, data.images)
    wanted = torch.ones_like(data.labels)
    row = judge(trained, LabelledImages(images=data.images, labels=wanted)).confusion[1]
    assert list(row) == torch.bincount(assigned, minlength=3).tolist()


def test_a_file_gives_the_same_network(trained, tmp_path):
    path = save_classifier(tmp_path / "c.pt", trained, settings=QUICK, about={"data": "squares"})
    again, record = load_classifier(path)
    assert record == {"settings": asdict(QUICK), "about": {"data": "squares"}}
    images = squares(20, seed=4).images
    assert torch.equal(assign(again, images), assign(trained, images))
    assert os.listdir(tmp_path) == ["c.pt"]
    assert not again.training


def test_other_files_are_refused(tmp_path):
    torch.save({"kind": "stage1"}, tmp_path / "c.pt")
    with pytest.raises(WeightsError, match="not a classifier"):
        load_classifier(tmp_path / "c.pt")
    assert load_tensors(tmp_path / "c.pt")["kind"] == "stage1"


def test_mistakes_are_explained(trained):
    with pytest.raises(DataError, match="fewer than one batch of 16"):
        train_classifier(squares(15, seed=0), num_classes=3, settings=QUICK)
    data = squares(4, seed=0)
    with pytest.raises(DataError, match="3 classes"):
        judge(trained, LabelledImages(images=data.images, labels=torch.full((4,), 3)))
    with pytest.raises(DataError, match="0 images"):
        judge(trained, data[:0])


def test_mislabelled_keeps_images_and_counts():
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 1, 2])
    data = LabelledImages(images=torch.zeros(8, 3, 2, 2, dtype=torch.uint8), labels=labels)
    moved = mislabelled(data)
    assert moved.counts(3) == data.counts(3) == [3, 3, 2]
    assert not (moved.labels == labels).any()
    assert moved.images is data.images
