"""The rule that gives images their prompts: when it encodes them, how far it fills them up, what it records."""

import pytest
import torch

from tiny_text import text_encoder_folder
from unirae.core.errors import ConfigError
from unirae.evaluation.sampling.requests import filled, prompt_rule
from unirae.models.denoisers.condition import Condition
from unirae.models.text.build import load_text_encoder


@pytest.fixture(scope="module")
def encoder():
    return load_text_encoder(text_encoder_folder("bert"), max_length=40)


def test_numbers_of_negative_prompts_and_images():
    def encode(texts):
        return Condition(tokens=torch.zeros(len(texts), 1, 4), mask=torch.ones(len(texts), 1).bool())

    with pytest.raises(
        ConfigError, match="2 negative prompts for 3 prompts; give one for all, or one for each"
    ):
        prompt_rule(encode, ["a", "b", "c"], negatives=["x", "y"])
    with pytest.raises(ConfigError, match="images_per_prompt=0 must be at least 1"):
        prompt_rule(encode, ["a"], images_per_prompt=0)


def test_lengths_are_filled_up_to_powers_of_two():
    for longest, length in ((0, 16), (1, 16), (16, 16), (17, 32), (40, 64), (256, 256)):
        mask = torch.arange(max(longest, 1)) < torch.tensor([[longest], [0]])
        tokens = torch.randn(2, mask.shape[1], 3)
        found = filled(Condition(tokens=tokens, mask=mask))
        assert found.tokens.shape == (2, length, 3)
        assert found.mask.sum(1).tolist() == [longest, 0]
    long_filling = Condition(tokens=torch.zeros(1, 256, 3), mask=torch.arange(256)[None] < 3)
    assert filled(long_filling).tokens.shape == (1, 16, 3)


def test_the_record_tells_prompts_apart(encoder):
    records = [
        prompt_rule(encoder.encode, prompts, **own).describe()
        for prompts, own in (
            (["a", "b"], {}), (["b", "a"], {}), (["a\nb"], {}), (["a", "b"], {"negatives": ["x"]}),
            (["a", "b"], {"negatives": ["x", "y"]}), (["a", "b"], {"images_per_prompt": 2}),
            (["a", "b"], {"seeds": (1, None)}), (["a", "b"], {"cfg_scales": (None, 2.0)}),
        )
    ]  # fmt: skip
    assert len({str(record) for record in records}) == len(records)
