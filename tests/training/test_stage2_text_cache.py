"""Stage 2 on captions out of the cache: the losses of encoding on the fly, and neither encoder."""

import logging
import shutil
from pathlib import Path

import pytest
import torch

import text_runs
from text_runs import losses, text_overrides, write_photos
from tiny_checkpoint import write_checkpoint
from tiny_text import text_encoder_folder, write_text_encoder
from unirae.app.run import texts
from unirae.core.io import load_tensors, save_tensors

FAST = (
    "model.optimizer.lr=0.05",
    "model.scheduler.final_lr=0.05",
    "model.scheduler.decay_end_steps=9",
    "model.label_dropout=0",
)
"""A new network predicts zero whatever the text: now other texts change the losses of the third and fourth step by some
hundredths."""


def run(folder, *overrides, **options):
    return text_runs.run(folder, *FAST, *overrides, **options)


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


@pytest.fixture
def rae(tmp_path):
    return write_checkpoint(tmp_path / "rae")


@pytest.mark.parametrize(
    ("family", "dtype", "tolerance"), [("bert", "float32", 1e-6), ("qwen3", "float16", 1e-3)]
)
def test_losses_from_the_cache_equal_those_of_encoding_on_the_fly(tmp_path, rae, family, dtype, tolerance):
    run(tmp_path / "fly", rae=rae, family=family)
    cache = (f"data.latent_cache={tmp_path / 'cache'}", f"data.latent_cache_dtype={dtype}")
    ready = run(tmp_path / "cached", *cache, rae=rae, family=family)
    assert ready.module.text_encoder is None
    torch.testing.assert_close(losses(tmp_path / "cached"), losses(tmp_path / "fly"), rtol=tolerance, atol=0)


def test_with_a_complete_cache_neither_encoder_is_needed(tmp_path, rae, monkeypatch):
    own = Path(shutil.copytree(text_encoder_folder("t5"), tmp_path / "own"))
    words, cache = text_overrides(folder=own), f"data.latent_cache={tmp_path / 'cache'}"
    run(tmp_path / "first", cache, words=words, rae=rae)
    content = load_tensors(rae)
    content["unirae"]["encoder_state"] = None
    save_tensors(rae, content)

    def opened(*args, **kwargs):
        raise AssertionError("the text encoder was opened")

    monkeypatch.setattr(texts, "load_text_encoder", opened)
    run(tmp_path / "second", cache, words=words, rae=rae)
    shutil.rmtree(own)
    run(tmp_path / "third", cache, words=words, rae=rae)
    for name in ("second", "third"):
        assert torch.equal(losses(tmp_path / name), losses(tmp_path / "first"))
    with pytest.raises(AssertionError, match="was opened"):
        run(tmp_path / "fourth", words=words)


def test_other_files_of_the_encoder_are_not_taken_for_those_of_the_cache(tmp_path, rae):
    own = Path(shutil.copytree(text_encoder_folder("bert"), tmp_path / "own"))
    words, cache = text_overrides(folder=own), f"data.latent_cache={tmp_path / 'cache'}"
    run(tmp_path / "first", cache, words=words, rae=rae)
    shutil.rmtree(own)
    write_text_encoder(own, "bert", seed=8)
    run(tmp_path / "second", cache, words=words, rae=rae)
    run(tmp_path / "fly", words=words, rae=rae)
    torch.testing.assert_close(losses(tmp_path / "second"), losses(tmp_path / "fly"), rtol=1e-3, atol=0)
    assert not torch.allclose(losses(tmp_path / "second"), losses(tmp_path / "first"), rtol=5e-3)


def test_edited_captions_alone_are_encoded_anew(tmp_path, rae, photos, caplog):
    caplog.set_level(logging.INFO)
    cache = f"data.latent_cache={tmp_path / 'cache'}"
    run(tmp_path / "first", cache, rae=rae, photos=photos)
    assert "text cache: encoding 31 texts" in caplog.text
    latents = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*") if file.is_file()}
    assert latents
    for i in (1, 2):
        (photos / f"train/{'ab'[i % 2]}/{i}.txt").write_text(f"another text {i}")
    caplog.clear()
    run(tmp_path / "second", cache, rae=rae, photos=photos)
    assert "text cache: encoding 2 texts" in caplog.text
    assert {file: file.stat().st_mtime_ns for file in latents} == latents
    run(tmp_path / "fly", rae=rae, photos=photos)
    torch.testing.assert_close(losses(tmp_path / "second"), losses(tmp_path / "fly"), rtol=1e-3, atol=0)
    assert not torch.equal(losses(tmp_path / "second"), losses(tmp_path / "first"))
