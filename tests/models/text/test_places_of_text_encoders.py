"""Text encoders by the places that a checkpoint knows: a folder that is gone, and the hub's name behind it."""

import pytest

from tiny_qwen import write_qwen
from unirae.core.errors import WeightsError
from unirae.core.weights import VARIABLE
from unirae.models.text.build import load_text_encoder, text_encoder_of
from unirae.models.text.identity import TextEncoderIdentity, is_hub_name


def identity(name: str, source: str) -> TextEncoderIdentity:
    hashes = {"sha256": "0" * 64, "tokenizer_sha256": "1" * 64}
    return TextEncoderIdentity(
        name=name, source=source, model_type="qwen3", max_length=8, layer=None, width=24, **hashes
    )


@pytest.mark.parametrize(
    ("name", "source", "hub_name"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("Qwen/Qwen3-0.6B", "/weights/Qwen--Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("outputs/words", "/home/me/outputs/words", None),
        ("./words", "/home/me/words", None),
        ("/home/me/words", "/home/me/words", None),
        ("words", "/home/me/words", None),
        ("minilm", "minilm", None),
        ("a/b/c", "/home/me/a/b/c", None),
    ],
)
def test_the_name_on_the_hub(name, source, hub_name):
    assert identity(name, source).hub_name == hub_name


def test_a_folder_that_is_here_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_name("mine/words")
    (tmp_path / "mine/words").mkdir(parents=True)
    assert not is_hub_name("mine/words")
    assert not any(
        map(is_hub_name, ("", "words", "/mine/words", "./words", "~/words", "../a", "a/b/c", "a//b"))
    )


def test_a_text_encoder_of_a_folder_that_is_gone_is_found_by_its_hubs_name(tmp_path, monkeypatch):
    there, here = tmp_path / "there/Qwen--Qwen3-0.6B", tmp_path / "here/Qwen--Qwen3-0.6B"
    write_qwen(there)
    monkeypatch.setenv(VARIABLE, str(there.parent))
    known = load_text_encoder("Qwen/Qwen3-0.6B", max_length=8).identity
    assert known.source == str(there)

    here.parent.mkdir()
    there.rename(here)
    monkeypatch.setenv(VARIABLE, str(here.parent))
    found = text_encoder_of(known).identity
    assert (found.source, found.sha256) == (str(here), known.sha256)

    for file in here.iterdir():
        file.unlink()
    write_qwen(here, seed=1)
    with pytest.raises(WeightsError, match="is not the one that the network was trained with"):
        text_encoder_of(known)


def test_a_folder_that_is_gone_and_has_no_other_name_is_named(tmp_path):
    known = load_text_encoder(write_qwen(tmp_path / "words"), max_length=8).identity
    (tmp_path / "words").rename(tmp_path / "moved")
    with pytest.raises(
        WeightsError, match=r"/words does not exist\. Say where it is with text_encoder=PATH$"
    ):
        text_encoder_of(known)
    assert text_encoder_of(known, name=tmp_path / "moved").identity.sha256 == known.sha256
