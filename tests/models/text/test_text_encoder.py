"""Text encoders: the tokens that transformers makes, of each text alone, and every way in which a folder is none."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_text import (
    ADDED,
    FAMILIES,
    LENGTH,
    edit_json,
    text_encoder_folder,
    write_text_encoder,
    write_tokenizer,
)
from unirae.core.errors import ConfigError, WeightsError
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


# ---------------------------------------------------------------- what is no text encoder


def refused(folder, message, error=WeightsError, **options):
    with pytest.raises(error, match=message) as found:
        load(folder, **options)
    assert "\n" not in str(found.value)
    if error is WeightsError:
        assert "Give a folder with config.json, weights and tokenizer" in str(found.value)


@EACH
def test_without_a_tokenizer_there_is_no_encoder(family, own_copy):
    """Transformers makes an empty one, for which every word is unknown."""
    folder = own_copy(family)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(folder, "has no tokenizer")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", b"{", "has no tokenizer that can be read"),
        ("tokenizer.json", b"{}", "the tokenizer cannot be read"),
        ("tokenizer.json", b"\xff\xfe\x00", "has no tokenizer that can be read"),
        ("tokenizer_config.json", b"[]", "the tokenizer cannot be read"),
        ("config.json", b"", "cannot load the text encoder from .*config.json"),
        ("config.json", b"[]", "Unrecognized model"),
        ("model.safetensors", b"", "the weight file is truncated or damaged"),
        ("model.safetensors", b"\0" * 100, "the weight file is truncated or damaged"),
        ("model.safetensors", None, "no file named model.safetensors"),
        ("config.json", None, "Unrecognized model"),
    ],
)  # fmt: skip
def test_a_damaged_or_missing_file_is_named(own_copy, file, content, message):
    folder = own_copy("bert")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    refused(folder, message)


def test_cut_weights_are_noticed(own_copy):
    folder = own_copy("t5")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused(folder, "the weight file is truncated or damaged")


def test_weights_that_pytorch_cannot_read_are_noticed(own_copy):
    folder = own_copy("bert")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"abc")
    refused(folder, "the model cannot be read")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_hidden_layers": 3},
            "16 tensors of BertModel are missing or of another size, such as encoder.layer.2",
        ),
        (
            {"intermediate_size": 48},
            r"encoder\.layer\.0\.intermediate\.dense\.bias \(\[64\] in the file, \[48\] by config\.json",
        ),
        (
            {"vocab_size": 300},
            r"word_embeddings.weight \(\[280, 32\] in the file, \[300, 32\] by config\.json",
        ),
        ({"num_attention_heads": 5}, "not a multiple of the number of attention heads"),
        ({"hidden_size": "wide"}, "the configuration cannot be read .*hidden_size"),
        ({"hidden_act": "nosuch"}, "the model cannot be read .*nosuch"),
        ({"model_type": "nosuch"}, "model type `nosuch`"),
    ],
)
def test_a_configuration_of_other_weights_is_noticed(own_copy, changes, message):
    folder = own_copy("bert")
    edit_json(folder / "config.json", **changes)
    refused(folder, message)


def test_broken_weights_are_noticed(own_copy):
    folder = own_copy("bert")
    file = folder / "model.safetensors"
    state = load_file(file)
    state["encoder.layer.1.output.dense.bias"] += float("nan")
    save_file(state, file, metadata={"format": "pt"})
    refused(folder, "makes NaN or infinity of 'a': its weights are broken")


def test_a_tokenizer_of_a_larger_model_is_noticed(own_copy, tmp_path):
    write_tokenizer(tmp_path / "larger", "qwen3", words=("abcdefghijklmnopqrstuvwxyz", "dog"))
    folder = own_copy("qwen3")
    shutil.copy(tmp_path / "larger/tokenizer.json", folder)
    refused(folder, "tokens up to number 28., and the model knows 280: they are not of one model")


def test_a_model_of_pictures_is_no_text_encoder(tmp_path):
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=32, **sizes)).save_pretrained(tmp_path / "vit")
    write_tokenizer(tmp_path / "vit", "bert")
    refused(tmp_path / "vit", "is no text encoder: ViTModel has no table of tokens")


def test_places_that_hold_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "file", "file is no folder")
    refused(tmp_path / "none", "none does not exist")
    refused(tmp_path / "empty", "Unrecognized model")
    refused("word", "the text encoder word does not exist")
    refused("", "text_encoder='' is empty", error=ConfigError)


def test_a_name_of_the_hub_fails_at_once_without_a_network():
    refused("Nobody/Nothing-0.6B", "cannot load the text encoder from Nobody/Nothing-0.6B")
    with pytest.raises(WeightsError, match=r"`hf download Nobody/Nothing-0\.6B --local-dir DIR`"):
        load("Nobody/Nothing-0.6B")


@EACH
def test_lengths_and_layers_that_cannot_be(family):
    folder = text_encoder_folder(family)
    if (most := LENGTH[family]) is not None:
        refused(
            folder, f"max_length={most + 1}: .* reads {most} tokens at most", ConfigError, max_length=most + 1
        )
        assert load(folder, max_length=most).identity.max_length == most
    least = ADDED[family] + 1
    refused(folder, f"max_length={least - 1}: .* needs at least {least}", ConfigError, max_length=least - 1)
    _, mask = load(folder, max_length=least).encode(["many words", ""]).text
    assert mask.sum(1).tolist() == [least, ADDED[family]]
    for layer in (3, -4):
        refused(folder, re.escape(f"layer={layer}: ") + ".*hidden states 0 to 2", ConfigError, layer=layer)
