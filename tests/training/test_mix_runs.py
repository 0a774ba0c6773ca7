"""Runs on a mix of data sets: continued exactly, on two processes as on one, scored on one source, with caches."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from live import Live
from processes import run_in_processes
from tiny_checkpoint import write_checkpoint
from tiny_training import MIXED, TINY, fit, mixed
from unirae.app.config.composition import compose
from unirae.app.config.mixing import source_config
from unirae.app.run import builders
from unirae.app.run.assembly import assemble
from unirae.core.errors import ConfigError
from unirae.core.io import load_tensors, save_tensors
from unirae.data.latent_cache import CachedLatents
from unirae.data.source_content import content_of
from unirae.models.checkpoints.reading import open_checkpoint
from unirae.training import datamodule
from unirae.training.csv_logger import read_metrics

TRAIN = Path(__file__).parents[2] / "src" / "train.py"
SPEED = ("train/images_per_s", "train/time_left_s")
STEPS = 10


class Crash(pl.Callback):
    """The power goes off after a step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step == self.step:
            raise ZeroDivisionError


def config_of(folder: Path, stage: str, *overrides: str, entries: tuple[str, ...] = ()) -> dict[str, Any]:
    return compose(
        [*mixed(stage, *entries), f"trainer.max_steps={STEPS}", f"paths.output_dir={folder}", *overrides]
    )


def run(config: dict[str, Any], *, checkpoint: Path | None = None, crash_at: int = 0) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready = assemble(config, experiment="tiny", checkpoint=checkpoint)
        ready.trainer.callbacks.append(Crash(crash_at))
        ready.fit()
    return ready


def metrics(folder: Path) -> list[dict[str, str]]:
    rows = read_metrics(folder / "csv" / "metrics.csv")
    return [{name: value for name, value in row.items() if name not in SPEED} for row in rows]


def losses(folder: Path) -> torch.Tensor:
    return torch.tensor([float(row["train/loss"]) for row in metrics(folder)])


def assert_same_run(found: Path, wanted: Path) -> None:
    assert metrics(found) == metrics(wanted)
    mine, theirs = (load_tensors(folder / "checkpoints" / "last.ckpt") for folder in (found, wanted))
    assert mine["global_step"] == theirs["global_step"]
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(mine[key], theirs[key], rtol=0, atol=0)


@pytest.mark.parametrize("stage", ["mae", "stage1", "stage2"])
def test_continuing_after_a_crash_changes_nothing(tmp_path, stage):
    every = "callbacks.model_checkpoint.every_n_train_steps=5"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(config_of(whole, stage, every))
    with pytest.raises(ZeroDivisionError):
        run(config_of(parts, stage, every), crash_at=8)
    last = parts / "checkpoints/last.ckpt"
    assert load_tensors(last)["global_step"] == 5  # within a block of four steps
    run(config_of(parts, stage, every), checkpoint=last)
    assert_same_run(parts, whole)
    assert len(set(losses(whole).tolist())) == STEPS


def test_a_run_that_continues_on_another_mix_says_so(tmp_path, caplog):
    last = tmp_path / "run/checkpoints/last.ckpt"
    run(config_of(tmp_path / "run", "mae", "trainer.max_steps=1"))
    run(config_of(tmp_path / "run", "mae", "trainer.max_steps=2"), checkpoint=last)
    assert "the mix was another" not in caplog.text
    run(config_of(tmp_path / "run", "mae", "trainer.max_steps=3", entries=MIXED[::-1]), checkpoint=last)
    assert "the mix was another: few (1), many (3) there, many (3), few (1) here" in caplog.text


def test_a_killed_process_continues_exactly(tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    every = "callbacks.model_checkpoint.every_n_train_steps=15"
    long = ("trainer.max_steps=60", "model.sample_every=1000000", "data.num_workers=1", every)
    words = [*mixed("stage1"), *long, f"paths.output_dir={parts}"]
    last = parts / "checkpoints/last.ckpt"
    killed = Live("train", *words, folder=tmp_path)
    killed.wait_for(last.exists)
    killed.signal(signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    command = [sys.executable, TRAIN, *words, "ckpt_path=last"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mix: few, 18 images, 0.25 of the steps: 15 of 60, 6.67 passes over it" in done.stderr
    run(config_of(whole, "stage1", *long, "data.num_workers=0"))
    assert_same_run(parts, whole)


def trained(folder: Path, *overrides: str) -> dict[str, torch.Tensor]:
    module = fit(config_of(folder, "stage2", "trainer.max_steps=4", *overrides), double=True)
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def in_a_process(folder: Path) -> dict[str, torch.Tensor]:
    return trained(folder, "trainer.devices=2", "trainer.accelerator=cpu")


def test_two_processes_and_micro_batches_equal_one(tmp_path):
    one = trained(tmp_path / "one")
    halves = trained(tmp_path / "halves", "trainer.accumulate_grad_batches=2")
    for found in (halves, *run_in_processes(in_a_process, tmp_path / "two")):
        for name, tensor in one.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scored", ["0", "many"])
def test_statistics_validation_and_scores_are_of_the_source_that_is_named(tmp_path, scored, caplog):
    config = config_of(tmp_path / "run", "stage2", f"data.scored={scored}", "trainer.max_steps=2")
    number = 0 if scored == "0" else 1
    alone = source_config(config["data"], number)
    train, val = (
        builders.build_dataset(alone, split=split, size=32, use="eval") for split in ("train", "val")
    )
    caplog.set_level("INFO", logger="unirae")
    ready = run(config)
    kept = load_tensors(tmp_path / "run/latent_stats.pt")
    assert kept["for"]["data"] == content_of(train.source)
    assert kept["latent_stats"]["info"]["count"] == [18, 35][number]
    assert content_of(ready.data.eval_dataset.source) == content_of(val.source)
    assert f"references and scores are of {['few', 'many'][number]}" in caplog.text
    (score,) = (tmp_path / "run/eval").glob("step-*2.json")
    assert json.loads(score.read_text())["settings"]["reference"]["fingerprint"]["count"] == [8, 10][number]
    saved = open_checkpoint(tmp_path / "run", kind="stage2")
    assert saved.about["class_names"] == ["shape 0", "shape 1", "shape 2"]
    assert saved.config["data"]["scored"] in (number, "many")


def test_scores_of_the_named_source_equal_those_of_a_run_on_it(tmp_path):
    """The statistics, too: everything but the training is as if the other source were not there."""
    words = (
        "model.sample_every=1000",
        "trainer.max_steps=1",
        "model.optimizer.lr=0",
        "model.disc_optimizer.lr=0",
    )
    run(config_of(tmp_path / "mix", "stage1", *words, "data.scored=many"))
    run(config_of(tmp_path / "alone", "stage1", *words, entries=MIXED[1:]))
    one, other = (metrics(tmp_path / name)[0] for name in ("mix", "alone"))
    assert one["val/psnr"] == other["val/psnr"]
    assert one["train/loss"] != other["train/loss"]


@pytest.mark.parametrize("stage", ["mae", "stage1", "stage2"])
def test_a_mix_of_one_is_a_run_on_it(tmp_path, stage):
    small = ("data.source.train_count=35", "data.source.val_count=10", "data.source.classes=3")
    plain = [*TINY[stage], *small, "trainer.max_steps=4", f"paths.output_dir={tmp_path / 'plain'}"]
    run(compose(plain))
    source = "source: {image_size: 32, train_count: 35, val_count: 10, classes: 3}"
    entry = f"{{data: synthetic, name: one, weight: 0.7, {source}}}"
    run(config_of(tmp_path / "mix", stage, "trainer.max_steps=4", entries=(entry,)))
    assert_same_run(tmp_path / "mix", tmp_path / "plain")


def test_a_linear_probe_has_the_classes_of_all_sources(tmp_path):
    swapped = ("data.scored=few", "model.image_size=32")
    config = config_of(tmp_path / "run", "linear_probe", *swapped, "trainer.max_steps=2", entries=MIXED[::-1])
    ready = run(config)
    assert ready.module.class_names == ("shape 0", "shape 1", "shape 2")
    assert ready.data.eval_dataset.source.class_names == ready.module.class_names


# ---------------------------------------------------------------- the latent cache


@pytest.fixture
def rae(tmp_path) -> Path:
    return write_checkpoint(tmp_path / "rae")


def on_latents(folder: Path, rae: Path, *overrides: str, entries: tuple[str, ...] = ()) -> Any:
    config = config_of(
        folder,
        "stage2",
        f"model.rae.pretrained_decoder_path={rae}",
        "model.rae.decoder_weights=null",
        "callbacks.generation_metrics.metrics=[]",
        "data.latent_cache_dtype=float32",
        *overrides,
        entries=entries,
    )
    config["changed_keys"] = []  # the checkpoint's shapes are not those of the tiny configuration
    return run(config)


def test_losses_from_caches_equal_those_of_encoding_on_the_fly(tmp_path, rae):
    exact = (MIXED[0], MIXED[1].replace("weight: 3", "weight: 3, fast_resize: false"))
    on_latents(tmp_path / "fly", rae, entries=exact)
    cache = f"data.latent_cache={tmp_path / 'cache'}"
    ready = on_latents(tmp_path / "cached", rae, cache, "data.num_workers=null")
    torch.testing.assert_close(losses(tmp_path / "cached"), losses(tmp_path / "fly"), rtol=1e-6, atol=0)
    assert all(isinstance(part.data, CachedLatents) for part in ready.data.train_dataset.parts)
    assert datamodule._all_cached(ready.data.train_dataset)
    assert ready.data.num_workers == 0
    content = load_tensors(rae)
    content["unirae"]["encoder_state"] = None
    save_tensors(rae, content)
    on_latents(tmp_path / "again", rae, cache)
    assert torch.equal(losses(tmp_path / "again"), losses(tmp_path / "cached"))


def test_a_source_that_is_added_leaves_the_others_caches(tmp_path, rae):
    cache = f"data.latent_cache={tmp_path / 'cache'}"
    on_latents(tmp_path / "one", rae, cache, "trainer.max_steps=1", entries=MIXED[:1])
    first = tmp_path / "cache/few/00000.npy"
    made = first.stat().st_mtime_ns
    on_latents(tmp_path / "two", rae, cache, "trainer.max_steps=1", "data.scored=few")
    assert first.stat().st_mtime_ns == made
    assert sorted(file.name for file in (tmp_path / "cache").iterdir()) == [".latent_stats.pt", "few", "many"]


def test_a_cache_of_other_images_is_refused_by_the_sources_folder(tmp_path, rae):
    cache = f"data.latent_cache={tmp_path / 'cache'}"
    on_latents(tmp_path / "one", rae, cache, "trainer.max_steps=1")
    changed = (MIXED[0], MIXED[1].replace("train_count: 35", "train_count: 34"))
    with pytest.raises(ConfigError, match=r"cache/many is of other images.*\(35 there, 34 here\)"):
        on_latents(tmp_path / "two", rae, cache, entries=changed)
    with pytest.raises(
        ConfigError, match="is of one data set, and a mix has a folder for each of its sources"
    ):
        on_latents(tmp_path / "two", rae, f"data.latent_cache={tmp_path / 'cache/few'}")


# ---------------------------------------------------------------- what is refused


@pytest.mark.usefixtures("names_of_commands")
def test_a_source_smaller_than_the_batch_is_refused_before_anything_is_encoded(tmp_path, rae):
    with pytest.raises(
        ConfigError, match=r"^data\.global_batch_size=32 is larger than the source few of the mix"
    ):
        on_latents(
            tmp_path / "run", rae, "data.global_batch_size=32", f"data.latent_cache={tmp_path / 'cache'}"
        )
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("names_of_commands")
def test_some_with_labels_and_some_without_are_refused_unless_asked_for(tmp_path):
    unlabelled = (MIXED[0], MIXED[1].replace("classes: 3", "classes: 0"))
    with pytest.raises(ConfigError, match=r"many has none while few has 2 classes: set data\.labels=false"):
        run(config_of(tmp_path / "run", "stage2", entries=unlabelled))
    none = ("data.labels=false", "callbacks.samples.cfg_scale=1", "trainer.max_steps=1")
    ready = run(config_of(tmp_path / "run", "stage2", *none, entries=unlabelled))
    assert ready.module.denoiser.num_classes == 0


@pytest.mark.usefixtures("names_of_commands")
def test_a_missing_folder_is_named_by_its_entry(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    with pytest.raises(Exception, match=r"set data\.sources\[1\]\.data_dir=/path/to/data"):
        run(config_of(tmp_path / "run", "mae", entries=(MIXED[0], "{data: image_folder}")))


def test_an_empty_mix_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.sources is empty"):
        run({**(config := config_of(tmp_path / "run", "mae")), "data": {**config["data"], "sources": []}})
