"""Views of a transform: what is drawn is one of them, and all of them can be had at once."""

import pytest
import torch

from tiny_latents import pictures
from unirae.core.errors import ConfigError
from unirae.data.sample_key import SampleKey, sample_generator
from unirae.data.transforms import AdmCenterCrop, AdmCropFlip, ScaleShift
from unirae.data.views import AllViews


@pytest.mark.parametrize("transform", [AdmCropFlip(size=(8, 12)), AdmCenterCrop(size=(8, 12))])
def test_what_is_drawn_is_the_view_of_that_number(transform):
    image = pictures(1).source[0].image
    seen = set()
    for epoch in range(30):
        key = SampleKey(0, epoch)
        view = transform.view(sample_generator(3, key))
        drawn = transform(image, sample_generator(3, key))
        assert torch.equal(drawn, transform.render(image, view))
        seen.add(view)
    assert seen == set(range(transform.views))
    assert transform.settings == {
        "name": type(transform).__name__,
        "size": [8, 12],
        "views": transform.views,
    }


def test_views_that_never_come_are_left_out():
    assert AdmCropFlip(size=8, flip_probability=0).view_weights == (1.0,)
    assert AdmCropFlip(size=8, flip_probability=0.25).view_weights == (0.75, 0.25)
    with pytest.raises(ConfigError, match=r"flip_probability=1\.5"):
        AdmCropFlip(size=8, flip_probability=1.5)


def test_all_views_of_an_image_and_of_what_replaces_a_bad_one():
    views = AllViews(pictures(5, bad=(1,)))
    assert len(views) == 5
    plain, mirrored = views[0]["images"]
    assert torch.equal(plain, mirrored.flip(-1))
    assert (views[1]["index"], views[1]["label"]) == (2, views[2]["label"])
    assert torch.equal(views[1]["images"], views[2]["images"])


def test_a_random_transform_has_one_view_its_first_draw():
    data = pictures(5, transform=ScaleShift(size=16), seed=2)
    views = AllViews(data)
    assert views.view_weights == (1.0,)
    assert torch.equal(views[4]["images"], data[SampleKey(4, 0)]["image"][None])
