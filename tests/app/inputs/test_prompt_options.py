"""The options of prompts: what they mean together, and which exclude each other."""

import sys
from dataclasses import dataclass

import pytest

from unirae.app.inputs.prompt_options import PromptOptions, prompts_of
from unirae.app.shell.options import parse
from unirae.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Options(PromptOptions):
    """Options of a command in this test."""


def parsed(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["sample_dit.py", *words])
    return parse(Options)


def test_prompts_of_the_command_line_are_taken_as_they_stand(monkeypatch):
    options = parsed(
        monkeypatch, "--prompt", "a cat, red", "--prompt", "~ [1] 12", "--prompt=-x", "--prompt", ""
    )
    assert options.prompt == ("a cat, red", "~ [1] 12", "-x", "")
    assert options == Options(prompt=options.prompt)


def test_none_is_none():
    assert prompts_of(Options(), labels="1", num_samples=3) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--images_per_prompt", "0"), "--images_per_prompt 0: give a whole number from 1"),
        (("--prompt",), "--prompt: give text"),
        (("--layout", "genevil"), "--layout genevil: give plain, geneval or dpg"),
    ],
)
def test_options_out_of_range_are_one_line(monkeypatch, capsys, words, said):
    with pytest.raises(SystemExit):
        parsed(monkeypatch, *words)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("layout", "each"), [("plain", 1), ("geneval", 4), ("dpg", 4)])
def test_images_of_each_prompt(layout, each):
    assert len(prompts_of(Options(prompt=("a", "b"), layout=layout))) == 2 * each
    assert len(prompts_of(Options(prompt=("a", "b"), layout=layout, images_per_prompt=3))) == 6


def test_what_a_line_says_beats_the_option(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "negative_prompt": ""}\n{"prompt": "b"}')
    found = prompts_of(Options(prompts=tmp_path / "p.jsonl", negative_prompt="fog"))
    assert [prompt.negative for prompt in found.prompts] == ["", "fog"]


@pytest.mark.parametrize(
    ("options", "others", "said"),
    [
        ({"prompt": ("a",), "prompts": "p.txt"}, {}, "--prompt and --prompts are two ways"),
        ({"prompt": ("a",)}, {"labels": "3"}, "--labels are for models of classes, --prompt for"),
        ({"prompt": ("a", "b")}, {"num_samples": 8}, "--num_samples 8: 2 prompts with 1 image each make 2"),
        ({"negative_prompt": "x"}, {}, "--negative_prompt: this is of prompts"),
        (
            {"images_per_prompt": 2, "layout": "dpg"},
            {},
            "--images_per_prompt and --layout dpg: this is of prompts",
        ),
        ({"prompt": ("ok", "caf\udce9")}, {}, "--prompt: character 4 is not UTF-8"),
        ({"prompt": ("a",), "negative_prompt": "\udce9"}, {}, "--negative_prompt: character 1 is not UTF-8"),
    ],
)
def test_options_that_exclude_or_lack_each_other(options, others, said):
    with pytest.raises(ConfigError, match=said):
        prompts_of(Options(**options), **others)


def test_a_number_of_samples_that_fits_is_taken():
    assert len(prompts_of(Options(prompt=("a",), images_per_prompt=4), num_samples=4)) == 4
