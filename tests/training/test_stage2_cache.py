"""Stage 2 from the latent cache: the losses of encoding on the fly, and no encoder."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unirae
from tiny_checkpoint import write_checkpoint
from tiny_training import tiny_config
from unirae.app.run.assembly import assemble
from unirae.core.errors import ConfigError, UserError, WeightsError
from unirae.core.io import load_tensors, read_json, save_tensors, write_json
from unirae.training import datamodule
from unirae.training.csv_logger import read_metrics
from unirae.training.datamodule import TrainingData

STEPS = 10
"""More than two epochs of 32 images in batches of 8: both flips of most of them."""


def losses(
    folder: Path, rae: Path, *overrides: str, checkpoint: Path | None = None, photos: Path | None = None
) -> torch.Tensor:
    config = tiny_config(
        f"trainer.max_steps={STEPS}",
        f"model.rae.pretrained_decoder_path={rae}",
        "model.rae.decoder_weights=null",
        "callbacks.generation_metrics.metrics=[]",
        *overrides,
        output_dir=folder,
        stage="stage2",
    )
    config["changed_keys"] = []  # the checkpoint's shapes are not those of the tiny configuration
    if photos is not None:
        config["data"]["source"] = {"_target_": "unirae.data.folder.FolderSource", "data_dir": str(photos)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assemble(config, experiment="tiny", checkpoint=checkpoint).fit()
    return torch.tensor([float(row["train/loss"]) for row in read_metrics(folder / "csv/metrics.csv")])


@pytest.fixture
def rae(tmp_path) -> Path:
    return write_checkpoint(tmp_path / "rae")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 1e-3)])
def test_losses_equal_those_of_encoding_on_the_fly(tmp_path, rae, dtype, tolerance):
    wanted = losses(tmp_path / "fly", rae)
    cache = (f"data.latent_cache={tmp_path / 'cache'}", f"data.latent_cache_dtype={dtype}")
    found = losses(tmp_path / "cached", rae, *cache)
    assert len(set(wanted.tolist())) == STEPS
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=0)


@pytest.mark.parametrize(("num_workers", "used"), [("null", 0), ("1", 1)])
def test_on_a_cpu_loader_processes_read_a_cache_only_if_asked_for(
    tmp_path, rae, monkeypatch, num_workers, used
):
    seen = []
    loader = TrainingData.train_dataloader
    monkeypatch.setattr(TrainingData, "train_dataloader", lambda self: seen.append(loader(self)) or seen[-1])
    cache = f"data.latent_cache={tmp_path / 'cache'}"
    losses(tmp_path / "run", rae, cache, f"data.num_workers={num_workers}", "trainer.max_steps=1")
    assert [one.num_workers for one in seen] == [used]
    assert [one.worker_init_fn for one in seen] == [datamodule._prepare_worker]


def test_a_complete_cache_needs_no_encoder(tmp_path, rae):
    cache = f"data.latent_cache={tmp_path / 'cache'}"
    wanted = losses(tmp_path / "first", rae, cache)
    content = load_tensors(rae)
    content["unirae"]["encoder_state"] = None
    save_tensors(rae, content)
    assert torch.equal(losses(tmp_path / "second", rae, cache), wanted)
    with pytest.raises(UserError, match="weights should be inside, but are not"):
        losses(tmp_path / "third", rae)


def test_a_stale_cache_is_refused(tmp_path, rae):
    cache = f"data.latent_cache={tmp_path / 'cache'}"
    losses(tmp_path / "first", rae, cache)
    with pytest.raises(ConfigError, match=r"is of other images.*the number of images \(32 there, 24 here\)"):
        losses(tmp_path / "second", rae, cache, "data.source.train_count=24")


@pytest.fixture
def photos(tmp_path):
    """32 files, and how to invert them in place: same names, sizes and times."""
    for i in range(32):
        file = tmp_path / f"photos/train/{'ab'[i % 2]}/{i}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    shutil.copytree(tmp_path / "photos/train", tmp_path / "photos/val")

    def invert():
        for file in (tmp_path / "photos").rglob("*.bmp"):
            times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
            Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
            os.utime(file, ns=times)

    return invert


@pytest.mark.usefixtures("names_of_commands")
def test_inverted_images_are_not_trained_on_from_the_cache_of_before(tmp_path, rae, photos, caplog):
    cache, folder = f"data.latent_cache={tmp_path / 'cache'}", tmp_path / "photos"
    trust = "data.latent_cache_trust=true"
    wanted = losses(tmp_path / "first", rae, cache, photos=folder)
    photos()
    with pytest.raises(ConfigError, match=rf"differ in: the contents of the images\. .*{trust}"):
        losses(tmp_path / "second", rae, cache, photos=folder)
    assert torch.equal(losses(tmp_path / "third", rae, cache, trust, photos=folder), wanted)
    assert (
        "taken as latents of these images, although they differ in: the contents of the images" in caplog.text
    )
    photos()
    assert torch.equal(losses(tmp_path / "fourth", rae, cache, photos=folder), wanted)


def test_a_cache_of_an_older_version_is_taken_only_if_that_is_insisted_on(tmp_path, rae, photos):
    cache, folder = f"data.latent_cache={tmp_path / 'cache'}", tmp_path / "photos"
    wanted = losses(tmp_path / "first", rae, cache, photos=folder)
    plan = read_json(tmp_path / "cache/index.json")
    kept = ("source", "split", "count", "names_sha256")
    plan["key"]["data"] = {"path": "/old", **{key: plan["key"]["data"][key] for key in kept}}
    write_json(tmp_path / "cache/index.json", plan)
    with pytest.raises(ConfigError, match=r"the contents of the images \(not recorded there\)"):
        losses(tmp_path / "second", rae, cache, photos=folder)
    trust = "data.latent_cache_trust=true"
    assert torch.equal(losses(tmp_path / "third", rae, cache, trust, photos=folder), wanted)


def test_a_run_goes_on_only_with_its_own_classes(tmp_path, rae, photos, caplog):
    folder, last = tmp_path / "photos", tmp_path / "run/checkpoints/last.ckpt"
    losses(tmp_path / "run", rae, "trainer.max_steps=2", photos=folder)
    for split in ("train", "val"):
        (folder / split / "b").rename(folder / split / "c")
    options = {"photos": folder, "checkpoint": last}
    with pytest.raises(ConfigError, match=r"a, b there, a, c here \(class 1 is b there and c here\)"):
        losses(tmp_path / "run", rae, "trainer.max_steps=4", **options)
    losses(tmp_path / "run", rae, "trainer.max_steps=4", "ckpt_other_labels=true", **options)
    assert "goes on with other classes than it was trained with: a, b there, a, c here" in caplog.text
    for split in ("train", "val"):
        shutil.copytree(folder / split / "a", folder / split / "d")
    with pytest.raises(ConfigError, match=r"2 classes there, 3 here.*needs another network"):
        losses(tmp_path / "run", rae, "trainer.max_steps=6", "ckpt_other_labels=true", **options)


def test_a_run_does_not_continue_on_another_autoencoder(tmp_path, rae):
    losses(tmp_path / "run", rae)
    content = load_tensors(rae)
    content["state_dict"]["ema.to_pixels.bias"] += 1
    save_tensors(rae, content)
    with pytest.raises(WeightsError, match="was trained on another autoencoder"):
        losses(tmp_path / "run", rae, checkpoint=tmp_path / "run/checkpoints/last.ckpt")


def test_statistics_of_other_views_are_computed_anew(tmp_path, rae):
    crop = "unirae.data.transforms.AdmCenterCrop"
    losses(tmp_path / "run", rae)
    first = load_tensors(tmp_path / "run/latent_stats.pt")["latent_stats"]["mean"]
    losses(tmp_path / "run", rae, f"data.stage2_transform._target_={crop}")
    assert not torch.equal(load_tensors(tmp_path / "run/latent_stats.pt")["latent_stats"]["mean"], first)


def test_statistics_and_caches_are_exact_where_training_is_fast(tmp_path, rae, monkeypatch):
    """Whatever is kept from one run to the next does not depend on how fast images are read."""
    read = {}
    monkeypatch.setattr(TrainingData, "train_dataloader", _noting(read))
    enlarged = ("data.source.image_size=48", "data.fast_decode=true")  # so that something is resized
    for fast in ("true", "false"):
        losses(tmp_path / fast, rae, *enlarged, f"data.fast_resize={fast}")
    assert [images.transform.fast for images in read["images"]] == [True, False]
    assert all(images.fast_decode for images in read["images"])
    assert not any(images.transform.fast or images.fast_decode for images in read["eval"])
    kept = [load_tensors(tmp_path / fast / "latent_stats.pt") for fast in ("true", "false")]
    assert kept[0]["for"] == kept[1]["for"]
    assert torch.equal(kept[0]["latent_stats"]["mean"], kept[1]["latent_stats"]["mean"])
    cache = f"data.latent_cache={tmp_path / 'cache'}"
    losses(tmp_path / "first", rae, *enlarged, cache, "data.fast_resize=true")
    losses(
        tmp_path / "second", rae, *enlarged, cache, "data.fast_resize=false"
    )  # refuses a cache of something else


def _noting(read):
    original = TrainingData.train_dataloader

    def noted(data):
        read.setdefault("images", []).append(data.train_dataset)
        read.setdefault("eval", []).append(data.eval_dataset)
        return original(data)

    return noted


def test_an_encoders_score_is_refused_with_a_cache_before_anything_is_encoded(tmp_path, rae):
    with pytest.raises(UserError, match="needs the encoder that"):
        losses(
            tmp_path / "run",
            rae,
            f"data.latent_cache={tmp_path / 'cache'}",
            "callbacks.generation_metrics.metrics=[fd]",
        )
    assert not (tmp_path / "cache").exists()


def test_a_run_behind_a_symbolic_link_finds_its_autoencoder(tmp_path, rae):
    (tmp_path / "deep/down/runs").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "deep/down/runs")
    losses(tmp_path / "runs/one", rae)
    assert unirae.load_rae(tmp_path / "runs/one").stats.shape is not None
