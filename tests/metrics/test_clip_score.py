"""CLIPScore's arithmetic on a toy pair of functions: means, errors, images without prompts, the order of texts."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toy_extractors import ToyClip
from unirae.core.errors import DataError
from unirae.metrics.clip_score import clip_metric, cosine_scores
from unirae.metrics.statistics import SetStatistics

WORDS = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)


def estimate(features, prompts):
    metric = clip_metric(ToyClip(), prompts)
    return metric.compute(SetStatistics(count=len(features), features=features), None)["clip_score"]


def of_prompts(prompts):
    """Features that are each prompt's own: every cosine is 1."""
    return ToyClip().text_features(ToyClip().tokenise(prompts))


def test_the_mean_and_its_error():
    prompts = ["a", "b", "c", "a"]
    texts = of_prompts(prompts)
    turned = texts.clone()
    turned[1] = -texts[1]  # cosine −1 counts as 0
    turned[2] = torch.tensor([-texts[2][1], texts[2][0], 0.0])  # a right angle
    found = estimate(turned, prompts)
    assert found.value == pytest.approx(50)
    assert found.standard_error == pytest.approx(math.sqrt((4 * 50**2) / 3 / 4))
    assert found.details == {"images_with_prompt": 4, "images_without_prompt": 0, "negative_cosines": 1}
    assert cosine_scores(turned, texts)[1] == pytest.approx(-100)


def test_one_image_has_no_error():
    found = estimate(of_prompts(["a"]), ["a"])
    assert (found.value, found.standard_error) == (pytest.approx(100), None)


@given(st.lists(WORDS, min_size=1, max_size=40), st.data())
def test_scores_do_not_depend_on_order_or_repetition(prompts, data):
    features = torch.randn(len(prompts), 3, generator=torch.Generator().manual_seed(len(prompts)))
    order = data.draw(st.permutations(range(len(prompts))))
    there = estimate(features, prompts)
    assert estimate(features[order], [prompts[k] for k in order]).value == there.value
    assert estimate(features.repeat(2, 1), prompts * 2).value == pytest.approx(there.value, rel=1e-15)


@given(st.lists(WORDS, min_size=2, max_size=40, unique=True))
def test_features_of_a_prompt_do_not_depend_on_the_others(prompts):
    rows = of_prompts(prompts)
    assert torch.equal(rows[:1], of_prompts(prompts[:1]))
    assert torch.equal(rows.flip(0), of_prompts(prompts[::-1]))


def test_images_without_prompt_are_left_out_and_said():
    prompts = ["a", "", "b", " \n"]
    features = torch.cat([of_prompts(["a"]), torch.zeros(1, 3), of_prompts(["b"]), -of_prompts(["b"])])
    found = estimate(features, prompts)
    assert found.value == pytest.approx(100)
    assert found.details["images_without_prompt"] == 2
    (caution,) = clip_metric(ToyClip(), prompts).cautions
    assert "2 of the 4 images have no prompt and are left out" in caution
    assert clip_metric(ToyClip(), ["a", "b"]).cautions == ()


def test_prompts_that_are_too_long_are_counted():
    (caution,) = clip_metric(ToyClip(), ["a" * 9, "a" * 8, "a" * 9]).cautions  # two images of one prompt
    assert "1 prompt is longer than the text network reads" in caution


def test_prompts_are_known_by_their_shares():
    def name(*prompts):
        settings = clip_metric(ToyClip(), prompts).settings
        return settings["prompts_sha256"], settings["tokens_sha256"]

    assert name("a", "b") == name("b", "a", "a", "b") == name("b", "", "a")
    assert len({name("a", "b"), name("a", "b", "b"), name("a", "c"), name("a")}) == 4
    long, longer = "a" * 9, "a" * 10  # cut alike
    assert name(long)[0] != name(longer)[0]
    assert name(long)[1] == name(longer)[1]


def test_mistakes():
    with pytest.raises(DataError, match="none of the 2 images has a prompt"):
        clip_metric(ToyClip(), ["", " "])
    with pytest.raises(DataError, match="the prompt of image 1 is not text: character 2 "):
        clip_metric(ToyClip(), ["a", "b \udce9"])
    with pytest.raises(ValueError, match="2 images and 1 prompts"):
        estimate(torch.ones(2, 3), ["a"])
