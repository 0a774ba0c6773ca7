"""Stage 2 on captions: what must not matter does not, and what is kept of a run is what it goes on with."""

import logging
import shutil
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from test_resume import Crash, assert_same_run
from test_stage2_step import assert_same

import unirae
from processes import run_in_processes
from text_runs import QUIET, STEPS, last, losses, run, text_overrides, write_photos
from tiny_shards import sample_members, write_tar
from tiny_text import edit_json, text_encoder_folder, write_text_encoder
from tiny_training import RAEV2, copied, fit, rehearsed, tiny_config
from unirae.core.errors import ConfigError, DataError, UserError, WeightsError
from unirae.core.io import load_tensors
from unirae.core.keyed_random import Stream, sample_keys, uniform
from unirae.data.captions import drawn_caption
from unirae.training.callbacks import captions as caption_module
from unirae.training.csv_logger import read_metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return run(folder, family="qwen3", words=(*text_overrides("qwen3"), *RAEV2)), folder


# ---------------------------------------------------------------- a run and what it leaves


def test_a_checkpoint_holds_the_empty_text_and_the_encoders_identity_but_not_the_encoder(finished):
    ready, folder = finished
    content = load_tensors(last(folder))
    assert not [name for name in content["state_dict"] if "text_encoder" in name]
    assert torch.equal(content["state_dict"]["dit.null_mask"], torch.tensor([False]))
    about = content["unirae"]
    assert about["dit"]["text_encoder"] == ready.module.text_encoder.identity.to_dict()
    assert about["class_names"] == []
    dit = unirae.load_dit(folder)
    assert (dit.reads_text, dit.num_classes, dit.text_identity["model_type"]) == (True, 0, "qwen3")
    assert torch.equal(dit.null_tokens, content["state_dict"]["ema.null_tokens"])
    assert len(set(losses(folder).tolist())) == STEPS
    encoder = ready.module.text_encoder
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_the_run_says_what_it_trains(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(tmp_path / "a", "trainer.max_steps=1")
    said = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("loading the text encoder from /") for line in said)
    (line,) = [line for line in said if line.startswith("text encoder ")]
    assert line.endswith("parameters, frozen")
    # memory is estimated, too
    assert not [line for line in said if "without an estimate" in line]
    assert [line for line in said if "memory" in line]


def test_captions_that_are_drawn_and_dropped_reach_the_network(tmp_path):
    """Each step's condition is the caption of each picture, or of "" where it is dropped."""
    seen = []

    class Seen(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if seen:
                return
            own = module.condition_of(batch)
            keys = sample_keys(module.seed, module.global_step, batch["index"])
            seen.append((batch, own, module.drop_conditions(own, keys), keys, module))

    config = tiny_config(
        "trainer.max_steps=1", *QUIET, *text_overrides(), "model.label_dropout=0.5", output_dir=tmp_path, stage="stage2"
    )  # fmt: skip
    fit(config, callbacks=[Seen()])
    ((batch, own, dropped, keys, module),) = seen
    source = module.trainer.datamodule.train_dataset.source
    assert batch["caption"] == [source.captions_of(i)[0] for i in batch["index"].tolist()]
    assert own.tokens.shape[1] == 16
    tokens, mask = module.encode_texts(batch["caption"]).text
    assert torch.equal(own.tokens[:, : tokens.shape[1]], tokens)
    assert torch.equal(own.mask[:, : mask.shape[1]], mask)
    gone = uniform(keys, (), Stream.LABEL_DROPOUT) < 0.5
    assert 0 < int(gone.sum()) < len(gone)
    null, null_mask = module.encode_texts([""]).text
    for number, is_gone in enumerate(gone.tolist()):
        there = dropped.mask[number]
        if is_gone:
            torch.testing.assert_close(
                dropped.tokens[number][there], null[0][null_mask[0]], rtol=1e-6, atol=1e-6
            )
        else:
            assert torch.equal(dropped.tokens[number][there], own.tokens[number][own.mask[number]])


# ---------------------------------------------------------------- split and spread


class History(pl.Callback):
    def __init__(self):
        self.states = []

    def on_train_batch_end(self, trainer, module, *args):
        self.states.append(
            {k: v for k, v in copied(module.state_dict()).items() if not k.startswith("text_encoder")}
        )


def states(folder, *overrides):
    history = History()
    config = tiny_config(
        "trainer.max_steps=3",
        *QUIET,
        *text_overrides(),
        *RAEV2,
        *overrides,
        output_dir=folder,
        stage="stage2",
    )
    fit(config, double=True, callbacks=[history])
    return history.states


@pytest.mark.parametrize("cached", [False, True])
def test_micro_batches_equal_one_batch(tmp_path, cached):
    cache = (f"data.latent_cache={tmp_path / 'cache'}", "data.latent_cache_dtype=float32") if cached else ()
    wanted = states(tmp_path, *cache)
    for found, there in zip(
        states(tmp_path, "trainer.accumulate_grad_batches=4", *cache), wanted, strict=True
    ):
        assert_same(found, there, atol=1e-7)  # the text encoder computes in 32 bits, and by other lengths


def _two_process_run(folder, words):
    history = History()
    config = tiny_config(
        "trainer.max_steps=3", *QUIET, *words, *RAEV2, "trainer.devices=2", "trainer.accelerator=cpu",
        output_dir=folder, stage="stage2",
    )  # fmt: skip
    fit(config, double=True, callbacks=[history])
    return [{name: tensor.numpy() for name, tensor in state.items()} for state in history.states]


@pytest.mark.parametrize("cached", [False, True], ids=["on the fly", "cached"])
def test_two_processes_equal_one(tmp_path, cached):
    cache = (f"data.latent_cache={tmp_path / 'cache'}", "data.latent_cache_dtype=float32") if cached else ()
    found = run_in_processes(_two_process_run, tmp_path / "two", (*text_overrides(), *cache))
    wanted = states(tmp_path / "one")
    for of_one_process in found:
        for mine, theirs in zip(of_one_process, wanted, strict=True):
            assert_same(
                {name: torch.from_numpy(value) for name, value in mine.items()},
                theirs,
                atol=2e-6 if cached else 1e-7,
            )


def test_gradient_checkpointing_changes_nothing(tmp_path):
    wanted = states(tmp_path)
    for found, there in zip(states(tmp_path, "model.dit.gradient_checkpointing=true"), wanted, strict=True):
        assert_same(found, there, atol=1e-12)


# ---------------------------------------------------------------- interrupted


@pytest.mark.parametrize("cached", [False, True], ids=["on the fly", "cached"])
def test_continuing_after_a_crash_changes_nothing(tmp_path, cached):
    overrides = ["callbacks.model_checkpoint.every_n_train_steps=2"]
    if cached:
        overrides.append(f"data.latent_cache={tmp_path / 'cache'}")
    run(tmp_path / "whole", *overrides)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "parts", *overrides, callbacks=[Crash(3)])
    assert load_tensors(last(tmp_path / "parts"))["global_step"] == 2
    run(tmp_path / "parts", *overrides, checkpoint=last(tmp_path / "parts"))
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_continuing_from_files_with_captions_changes_nothing(tmp_path, kind):
    """The order of pictures, their captions, and the empty text of the one that has none."""
    data = tmp_path / "data"
    members = sample_members(range(40))
    members = {name: content for name, content in members.items() if name != "0003.txt"}
    if kind == "shards":
        write_tar(data / "train-0.tar", dict(list(members.items())[:45]))
        write_tar(data / "train-1.tar", dict(list(members.items())[45:]))
        target = "unirae.data.tar_shards.TarShardsSource"
    else:
        data.mkdir()
        for name, content in members.items():
            (data / name).write_bytes(content.encode() if isinstance(content, str) else content)
        target = "unirae.data.folder.FolderSource"
    overrides = [
        "callbacks.model_checkpoint.every_n_train_steps=2",
        f"data.latent_cache={tmp_path / 'cache'}",
    ]
    how = {"source": {"_target_": target, "data_dir": str(data)}}
    whole = run(tmp_path / "whole", *overrides, data=how)
    assert {whole.module.denoiser.reads_text, len(whole.data.train_dataset) < 40} == {True}
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "parts", *overrides, data=how, callbacks=[Crash(3)])
    run(tmp_path / "parts", *overrides, data=how, checkpoint=last(tmp_path / "parts"))
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_a_run_goes_on_with_its_own_text_encoder_alone(tmp_path):
    own = Path(shutil.copytree(text_encoder_folder("bert"), tmp_path / "own"))
    words = text_overrides(folder=own)
    run(tmp_path / "run", "trainer.max_steps=1", words=words)
    more = {"checkpoint": last(tmp_path / "run")}
    for other, difference in (
        (text_overrides("qwen3"), "model_type"),
        (text_overrides(folder=own, length=15), "max_length 16"),
        ((*words, "model.text_encoder.layer=-1"), "layer None"),
        (text_overrides(folder=write_text_encoder(tmp_path / "seed", "bert", seed=3)), "sha256"),
    ):
        with pytest.raises(WeightsError, match=f"was trained with another text encoder .*{difference}"):
            run(tmp_path / "run", words=other, **more)
    moved = own.rename(tmp_path / "moved")
    run(tmp_path / "run", "trainer.max_steps=2", words=text_overrides(folder=moved), **more)
    assert len(losses(tmp_path / "run")) == 2


def test_a_run_of_texts_does_not_go_on_with_labels_nor_the_reverse(tmp_path, finished):
    _, folder = finished
    with pytest.raises(ConfigError, match=r"was conditioned on text; set model\.text_encoder\.name=.*qwen3"):
        run(tmp_path / "a", words=RAEV2, checkpoint=last(folder))
    run(tmp_path / "b", "trainer.max_steps=1", words=("model.dit.conditioning=tokens",))
    with pytest.raises(ConfigError, match=r"was conditioned on labels; leave model\.text_encoder\.name out"):
        run(tmp_path / "b", checkpoint=last(tmp_path / "b"))


# ---------------------------------------------------------------- captions that are missing


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


def test_pictures_without_captions_stand_for_the_empty_text_or_are_left_out(tmp_path, photos, caplog):
    ready = run(tmp_path / "null", photos=photos)
    assert "2 of 32 pictures have no caption and stand for the null prompt" in caplog.text
    assert len(ready.data.train_dataset) == 32
    left = run(tmp_path / "left", "data.missing_captions=leave_out", photos=photos)
    assert "2 of 32 pictures have no caption and are left out" in caplog.text
    assert len(left.data.train_dataset) == 30
    assert not torch.equal(losses(tmp_path / "null"), losses(tmp_path / "left"))


def test_data_without_any_caption_are_refused(tmp_path, photos):
    for file in photos.rglob("*.txt"):
        file.unlink()
    with pytest.raises(
        DataError, match="none of the 32 pictures of the split 'train' has a caption"
    ) as found:
        run(tmp_path / "run", photos=photos)
    assert "\n" not in str(found.value)


@pytest.mark.usefixtures("names_of_commands")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.dit.conditioning=adaln",), r"dit\.conditioning=adaln modulates .*model\.dit\.conditioning=tokens"),
        (("model.text_encoder.max_length=65",), r"model\.text_encoder\.max_length=65: .* reads 64 tokens at most"),
        (("model.text_encoder.layer=7",), r"model\.text_encoder\.layer=7: .* hidden states 0 to 2"),
        (("model.text_encoder.name=/no/such/folder",), "the text encoder /no/such/folder does not exist"),
        (("model.text_encoder.name=",), r"model\.text_encoder\.name=: give a path or null"),
        (("model.text_encoder.max_length=0",), "model.text_encoder.max_length"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_configuration_is_one_line(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message) as found:
        run(tmp_path / "run", *overrides)
    assert "\n" not in str(found.value)


def test_half_an_encoder_stops_before_anything_is_written(tmp_path):
    folder = Path(shutil.copytree(text_encoder_folder("bert"), tmp_path / "own"))
    edit_json(folder / "config.json", num_hidden_layers=5)
    with pytest.raises(WeightsError, match="missing or of another size"):
        run(tmp_path / "run", words=text_overrides(folder=folder))
    assert not last(tmp_path / "run").exists()


# ---------------------------------------------------------------- memory, pictures, scores


@pytest.mark.parametrize("cached", [False, True], ids=["on the fly", "cached"])
def test_memory_is_estimated_with_the_longest_texts(tmp_path, cached):
    found = {}

    class Rehearsal(pl.Callback):
        def on_train_start(self, trainer, module):
            found["estimate"] = rehearsed(trainer, module)
            sample = trainer.datamodule.train_dataset[0]
            found["example"] = {name: value.shape for name, value in module.example(sample).items()}

    peaks = {}
    for length in (16, 64):
        cache = (f"data.latent_cache={tmp_path / 'cache'}",) if cached else ()
        config = tiny_config(
            "trainer.max_steps=1", *QUIET, *text_overrides(length=length), *cache, output_dir=tmp_path, stage="stage2"
        )  # fmt: skip
        module = fit(config, callbacks=[Rehearsal()])
        assert found["example"]["text"] == (length, 32)
        assert "caption" not in found["example"]
        peaks[length] = found["estimate"].peak
        weights = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
        assert found["estimate"].weights == pytest.approx(weights, rel=0.05)
    assert (
        peaks[64] > peaks[16] + 8 * 48 * 16 * 4 * 5
    )  # 8 texts, 48 tokens more of width 16, some copies of each


@pytest.mark.parametrize("cached", [False, True], ids=["on the fly", "cached"])
def test_pictures_and_scores_are_of_the_validation_splits_captions(tmp_path, photos, monkeypatch, cached):
    asked = []
    original = caption_module.prompt_rule
    monkeypatch.setattr(
        caption_module,
        "prompt_rule",
        lambda encode, texts: (asked.append(list(texts)), original(encode, texts))[1],
    )
    for i in range(32):
        (photos / f"val/{'ab'[i % 2]}/{i}.txt").write_text(f"validation {i}")
    cache = (f"data.latent_cache={tmp_path / 'cache'}",) if cached else ()
    ready = run(
        tmp_path / "run",
        "trainer.max_steps=2",
        "model.sample_every=1",
        "callbacks.samples.count=4",
        "callbacks.samples.cfg_scale=2.0",
        *cache,
        photos=photos,
    )
    source = ready.data.eval_dataset.source
    wanted = [drawn_caption(source, i, seed=0, epoch=0) for i in (0, 8, 16, 24)]
    assert all(text.startswith("validation ") for text in wanted)
    assert asked == [wanted, wanted]
    drawn = sorted((tmp_path / "run/samples").glob("*.png"))
    assert len(drawn) == 2
    assert np.asarray(Image.open(drawn[0])).std() > 5


def test_scores_while_training_are_of_captions_spread_over_the_split(tmp_path, photos, monkeypatch):
    asked = []
    original = caption_module.prompt_rule
    monkeypatch.setattr(
        caption_module,
        "prompt_rule",
        lambda encode, texts: (asked.append(list(texts)), original(encode, texts))[1],
    )
    for i in range(32):
        (photos / f"val/{'ab'[i % 2]}/{i}.txt").write_text(f"validation {i}")
    ready = run(
        tmp_path / "run",
        "trainer.max_steps=1",
        "callbacks.generation_metrics.metrics=[fd]",
        "callbacks.generation_metrics.num_samples=8",
        "callbacks.generation_metrics.num_steps=2",
        photos=photos,
    )
    source = ready.data.eval_dataset.source
    wanted = [drawn_caption(source, 4 * i, seed=0, epoch=0) for i in range(8)]
    assert wanted in asked
    (score,) = [row for row in read_metrics(tmp_path / "run/csv/metrics.csv") if row["step"] == "1"]
    assert any(name.startswith("val/fd") and value for name, value in score.items())
