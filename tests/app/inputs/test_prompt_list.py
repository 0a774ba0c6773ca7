"""Lists of prompts: which image shows which, from which noise, and which hash."""

import hashlib

import torch
from hypothesis import given
from hypothesis import strategies as st

from unirae.app.inputs.prompt_list import PromptList, as_file
from unirae.app.inputs.prompts import Prompt
from unirae.models.denoisers.condition import Condition


@given(count=st.integers(1, 20), each=st.integers(1, 7))
def test_each_prompt_has_its_images_in_a_row(count, each):
    prompts = PromptList(prompts=[Prompt(text=str(i)) for i in range(count)], images_per_prompt=each)
    assert [prompts.of(n).text for n in range(len(prompts))] == [
        str(i) for i in range(count) for _ in range(each)
    ]


def encode(texts):
    """Tokens that say how long a text is."""
    tokens = torch.tensor([[[float(len(text))]] for text in texts])
    return Condition(tokens=tokens, mask=torch.ones(len(texts), 1, dtype=torch.bool))


def request(*prompts, each=2):
    listed = PromptList(prompts=prompts, images_per_prompt=each)
    return listed.rule(encode, seed=0).request(torch.arange(len(listed)))


def test_the_sampler_gets_every_prompt_with_what_is_its_own():
    asked = request(Prompt(text="a", seed=5), Prompt(text="bbb", cfg_scale=4.0), each=2)
    assert asked.condition.tokens[:, 0, 0].tolist() == [1, 1, 3, 3]
    assert asked.cfg_scale.isnan().tolist() == [True, True, False, False]
    assert asked.cfg_scale[2:].tolist() == [4.0, 4.0]
    assert asked.null is None
    plain = request(Prompt(text="a"), Prompt(text="b"))
    assert plain.cfg_scale is plain.seeds is plain.numbers is None


def test_a_seed_of_its_own_gives_a_prompt_the_same_noise_wherever_it_stands():
    own, other = Prompt(text="a", seed=5), Prompt(text="b")
    for prompts, noise in (
        ([own, other], [(5, 0), (5, 1), (0, 2), (0, 3)]),
        ([other, own], [(0, 0), (0, 1), (5, 0), (5, 1)]),
    ):
        asked = request(*prompts)
        assert list(zip(asked.seeds.tolist(), asked.numbers.tolist(), strict=True)) == noise


def test_negative_prompts_are_one_for_all_or_one_for_each():
    assert (
        request(Prompt(text="a", negative="xx"), Prompt(text="b", negative="xx"))
        .null.tokens[:, 0, 0]
        .tolist()
        == [2.0] * 4
    )
    assert request(Prompt(text="a", negative="xx"), Prompt(text="b")).null.tokens[:, 0, 0].tolist() == [
        2,
        2,
        0,
        0,
    ]
    assert request(Prompt(text="a", negative="")).null.tokens[:, 0, 0].tolist() == [0, 0]


def test_the_hash_is_that_of_the_file_and_of_its_first_lines():
    prompts = PromptList(prompts=[Prompt(text="é\ud83d"), Prompt(text="b", seed=1)])
    content = as_file(prompts.lines())
    assert content == b'{"prompt": "\xc3\xa9\\ud83d"}\n{"prompt": "b", "seed": 1}\n'
    assert prompts.sha256() == prompts.sha256(2) == hashlib.sha256(content).hexdigest()
    assert prompts.sha256(1) == hashlib.sha256(content.splitlines(keepends=True)[0]).hexdigest()
    assert prompts.sha256(1) == PromptList(prompts=prompts.prompts[:1], images_per_prompt=3).sha256()
