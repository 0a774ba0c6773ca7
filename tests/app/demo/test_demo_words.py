"""The demo of words: what its prompts are, and what is drawn of them."""

import torch

from unirae.app.demo.words import KNOWN, NEW_PROMPTS
from unirae.data.emoji import EmojiSource


def names():
    """Names of all emoji, of either split."""
    sources = [EmojiSource(split=split) for split in ("train", "val")]
    return {source.captions_of(i)[0] for source in sources for i in range(len(source))}


def test_no_prompt_is_an_emojis_name_but_those_that_the_page_names():
    said = {prompt.removeprefix("a ").removeprefix("an ") for prompt in NEW_PROMPTS}
    assert len(said) == len(NEW_PROMPTS) == 30
    assert said & names() == {"orange square"}
    assert set(KNOWN) <= set(NEW_PROMPTS)
    assert set(KNOWN.values()) <= names()


def test_a_name_of_each_picture_is_its_own():
    for split in ("train", "val"):
        source = EmojiSource(split=split)
        found = [source.captions_of(i) for i in range(len(source))]
        assert all(len(captions) == 1 and captions[0] for captions in found)
        assert torch.tensor(source.caption_weights).sum() == 1
