"""Text encoders: the tokens that transformers makes, of each text alone, and what makes them the same or another."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_text import (
    ADDED,
    FAMILIES,
    edit_json,
    text_encoder_folder,
    write_text_encoder,
)
from unirae.core.errors import WeightsError
from unirae.models.text.build import check_text_encoder, load_text_encoder, text_encoder_of
from unirae.models.text.identity import TextEncoderIdentity

EACH = pytest.mark.parametrize("family", FAMILIES)
TEXTS = ["a cat", "", "x", "مرحبا", "日本 😀", "e\u0301 né", "half \ud83d of a pair", "two\nlines"]


def load(folder, **options):
    return load_text_encoder(folder, **{"max_length": 16, **options})


@pytest.fixture
def own_copy(tmp_path):
    """A folder of a family to change."""

    def copied(family, name="copy"):
        return Path(shutil.copytree(text_encoder_folder(family), tmp_path / name))

    return copied


def model_of(family, folder):
    """The model, taken by its own class out of the whole folder."""
    import transformers

    if family == "clip":
        return transformers.CLIPModel.from_pretrained(folder).text_model.eval()
    if family == "qwen3":
        return transformers.Qwen3ForCausalLM.from_pretrained(folder).model.eval()
    return (
        {"bert": transformers.BertModel, "t5": transformers.T5EncoderModel}[family]
        .from_pretrained(folder)
        .eval()
    )


@EACH
@pytest.mark.parametrize("layer", [None, -1, 0, -2])
@torch.no_grad()
def test_tokens_are_those_of_transformers(family, layer):
    folder = text_encoder_folder(family)
    encoder, model = load(folder, layer=layer), model_of(family, folder)
    tokens, mask = encoder.encode(TEXTS).text
    for text, own, there in zip(TEXTS, tokens, mask, strict=True):
        ids = encoder.tokenizer(text.encode(errors="replace").decode())["input_ids"][:16]
        count = int(there.sum())
        assert count == min(len(ids), 16)
        assert torch.equal(there, torch.arange(len(there)) < count)
        assert torch.equal(own[count:], torch.zeros_like(own[count:]))
        if count and len(ids) < 16:
            found = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
            wanted = found.last_hidden_state if layer is None else found.hidden_states[layer]
            torch.testing.assert_close(own[:count], wanted[0], rtol=1e-5, atol=1e-5)
    assert tokens.dtype == torch.float32
    assert tokens.abs().max() > 0.1


@EACH
def test_layers_differ_and_none_is_after_the_last_norm(family):
    states = {
        layer: load(text_encoder_folder(family), layer=layer).encode(["a dog"]).text[0]
        for layer in (None, -1, -2, 0)
    }
    assert not torch.allclose(states[-2], states[0])
    assert not torch.allclose(states[-1], states[-2])
    assert torch.equal(states[None], states[-1]) is (
        family != "clip"
    )  # CLIP's hidden states leave its norm out


@EACH
@torch.no_grad()
def test_a_texts_tokens_do_not_depend_on_its_companions(family):
    encoder = load(text_encoder_folder(family))
    together, mask = encoder.encode([*TEXTS, *(f"{n} dogs" for n in range(40))]).text
    for number, text in enumerate(TEXTS):
        alone, there = encoder.encode([text]).text
        count = int(there.sum())
        assert int(mask[number].sum()) == count
        torch.testing.assert_close(together[number, :count], alone[0, :count], rtol=1e-6, atol=1e-6)


@EACH
def test_of_nothing_there_is_what_the_tokenizer_adds(family):
    encoder = load(text_encoder_folder(family))
    for texts in ([""], ["", ""]):
        tokens, mask = encoder.encode(texts).text
        assert mask.sum(1).tolist() == [ADDED[family]] * len(texts)
        assert tokens.shape == (len(texts), max(1, ADDED[family]), 32)
    tokens, mask = encoder.encode([]).text
    assert (tokens.shape, mask.shape) == ((0, 1, 32), (0, 1))


@EACH
def test_long_texts_are_cut_and_one_line_says_so(family, caplog):
    encoder = load(text_encoder_folder(family))
    for _ in range(2):
        _, mask = encoder.encode(["short", "cat " * 10_000, "dog " * 10_000]).text
        assert mask.sum(1).tolist()[1:] == [16, 16]
    (line,) = [record.getMessage() for record in caplog.records if "cut" in record.getMessage()]
    assert line.startswith("texts are cut to 16 tokens; the first that is longer begins with 'cat cat")


def test_a_text_that_just_fits_is_not_called_cut(caplog):
    encoder = load(text_encoder_folder("bert"))
    assert int(encoder.encode(["a" * 14]).text[1].sum()) == 16
    assert "cut" not in caplog.text


@pytest.mark.parametrize("family", ["bert", "t5", "qwen3"])
def test_the_side_that_a_tokenizer_fills_does_not_matter(family, tmp_path):
    sides = []
    for side in ("left", "right"):
        folder = write_text_encoder(tmp_path / side, family, padding_side=side)
        sides.append(load(folder).encode(TEXTS).text)
    for left, right in zip(*sides, strict=True):
        assert torch.equal(left, right)


def test_filling_that_the_tokenizer_does_by_itself_is_switched_off(own_copy):
    """As in all-MiniLM-L6-v2's file, which fills and cuts to 128."""
    folder = own_copy("bert")
    edit_json(
        folder / "tokenizer.json",
        padding={"strategy": {"Fixed": 12}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
                 "pad_type_id": 0, "pad_token": "[PAD]"},
        truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
    )  # fmt: skip
    wanted = load(text_encoder_folder("bert")).encode(TEXTS).text
    for found, there in zip(load(folder).encode(TEXTS).text, wanted, strict=True):
        assert torch.equal(found, there)


def test_a_token_to_fill_with_that_the_model_lacks_is_not_used(own_copy):
    folder = own_copy("qwen3")
    encoder = load(folder)
    wanted = encoder.encode(["a", "a cat and more"]).text
    encoder.tokenizer.add_special_tokens({"pad_token": "<fill>"})
    for k in range(40):
        encoder.tokenizer.add_tokens(f"<{k}>")
    encoder.tokenizer.add_special_tokens({"pad_token": "<last>"})
    encoder.tokenizer.save_pretrained(folder)
    again = load(folder)
    assert again.tokenizer.pad_token_id >= 280
    for found, there in zip(again.encode(["a", "a cat and more"]).text, wanted, strict=True):
        assert torch.equal(found, there)


@EACH
def test_training_mode_and_autocast_change_nothing(family):
    encoder = load(text_encoder_folder(family))
    wanted = encoder.encode(TEXTS).text[0]
    parent = torch.nn.ModuleList([encoder]).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in parent.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder.encode(TEXTS).text[0], wanted)
    with torch.enable_grad():
        assert not encoder.encode(["x"]).text[0].requires_grad


# ---------------------------------------------------------------- identity


@EACH
def test_the_same_files_elsewhere_are_the_same_encoder(family, own_copy):
    here, there = load(text_encoder_folder(family)), load(own_copy(family))
    assert here.identity.name != there.identity.name
    assert here.identity.differences(there.identity) == []
    check_text_encoder(here.identity, there)
    again = TextEncoderIdentity.from_dict(json.loads(json.dumps(here.identity.to_dict())))
    assert again == here.identity
    found = text_encoder_of(again, name=there.identity.source)
    assert torch.equal(found.encode(TEXTS).text[0], here.encode(TEXTS).text[0])


@EACH
def test_another_encoder_is_noticed(family, tmp_path):
    folder = text_encoder_folder(family)
    encoder = load(folder)
    others = {
        "sha256": load(write_text_encoder(tmp_path / "weights", family, seed=1)),
        "max_length": load(folder, max_length=12),
        "layer": load(folder, layer=-2),
    }
    if family != "clip":
        others["tokenizer_sha256"] = load(
            write_text_encoder(tmp_path / "words", family, words=("sun", "mud"))
        )
    for name, other in others.items():
        (said,) = encoder.identity.differences(other.identity)
        assert said.startswith(f"{name} "), said
        with pytest.raises(
            WeightsError, match=f"is not the one that the network was trained with .*: {name} "
        ):
            check_text_encoder(encoder.identity, other)
    with pytest.raises(WeightsError, match="sha256"):
        text_encoder_of(encoder.identity, name=tmp_path / "weights")


def test_a_tokenizer_that_cuts_the_beginning_off_is_another(own_copy):
    folder = own_copy("bert")
    edit_json(folder / "tokenizer_config.json", truncation_side="left")
    here, there = load(text_encoder_folder("bert")), load(folder)
    assert here.ids_of("x" * 30 + "dog") != there.ids_of("x" * 30 + "dog")
    (said,) = here.identity.differences(there.identity)
    assert said.startswith("tokenizer_sha256 ")


def test_weights_in_16_bits_are_read_as_32(own_copy):
    folder = own_copy("bert")
    file = folder / "model.safetensors"
    save_file({k: v.bfloat16() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    encoder = load(folder)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert encoder.identity.sha256 != load(text_encoder_folder("bert")).identity.sha256


def test_a_record_of_something_else_is_no_identity():
    with pytest.raises(WeightsError, match="no text encoder's identity"):
        TextEncoderIdentity.from_dict({"name": "x"})
