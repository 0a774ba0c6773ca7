"""Lists of prompts: which image shows which, from which noise, and which hash."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from unirae.app.inputs.prompt_list import PromptList, as_file
from unirae.app.inputs.prompts import Prompt


@given(count=st.integers(1, 20), each=st.integers(1, 7))
def test_each_prompt_has_its_images_in_a_row(count, each):
    prompts = PromptList(prompts=[Prompt(text=str(i)) for i in range(count)], images_per_prompt=each)
    assert [prompts.of(n).text for n in range(len(prompts))] == [
        str(i) for i in range(count) for _ in range(each)
    ]


def test_a_seed_of_its_own_gives_a_prompt_the_same_noise_wherever_it_stands():
    own, other = Prompt(text="a", seed=5), Prompt(text="b")
    first = PromptList(prompts=[own, other], images_per_prompt=2)
    last = PromptList(prompts=[other, own], images_per_prompt=2)
    assert [first.noise_of(n, seed=0) for n in range(4)] == [(5, 0), (5, 1), (0, 2), (0, 3)]
    assert [last.noise_of(n, seed=0) for n in range(4)] == [(0, 0), (0, 1), (5, 0), (5, 1)]


def test_the_hash_is_that_of_the_file_and_of_its_first_lines():
    prompts = PromptList(prompts=[Prompt(text="é\ud83d"), Prompt(text="b", seed=1)])
    content = as_file(prompts.lines())
    assert content == b'{"prompt": "\xc3\xa9\\ud83d"}\n{"prompt": "b", "seed": 1}\n'
    assert prompts.sha256() == prompts.sha256(2) == hashlib.sha256(content).hexdigest()
    assert prompts.sha256(1) == hashlib.sha256(content.splitlines(keepends=True)[0]).hexdigest()
    assert prompts.sha256(1) == PromptList(prompts=prompts.prompts[:1], images_per_prompt=3).sha256()
