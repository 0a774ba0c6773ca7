"""Every way in which a folder is no text encoder: one line that says what would be right."""

import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tiny_text import ADDED, FAMILIES, LENGTH, edit_json, text_encoder_folder, write_tokenizer
from unirae.core.errors import ConfigError, WeightsError
from unirae.models.text.build import load_text_encoder

EACH = pytest.mark.parametrize("family", FAMILIES)


def load(folder, **options):
    return load_text_encoder(folder, **{"max_length": 16, **options})


@pytest.fixture
def own_copy(tmp_path):
    """A folder of a family to change."""

    def copied(family, name="copy"):
        return Path(shutil.copytree(text_encoder_folder(family), tmp_path / name))

    return copied


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
