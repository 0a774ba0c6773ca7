"""Samples and scores while training stage 2: fixed noise, EMA weights, one reference."""

import json
import logging
import warnings

import numpy as np
import pytest
import yaml
from PIL import Image

from tiny_checkpoint import write_checkpoint
from tiny_latents import some_stats
from tiny_training import tiny_config
from unirae.app.run.assembly import assemble
from unirae.core.errors import ConfigError, DataError
from unirae.core.io import load_tensors, save_tensors
from unirae.evaluation.results.epochs_to import epochs_to
from unirae.evaluation.sampling.requests import spread_labels
from unirae.training.callbacks import scoring
from unirae.training.csv_logger import read_metrics


def train(folder, *overrides, steps=3, stage="stage2"):
    config = tiny_config(f"trainer.max_steps={steps}", *overrides, output_dir=folder, stage=stage)
    config["changed_keys"] = []  # a checkpoint's shapes are not those of the tiny configuration
    run = assemble(config, experiment="tiny", checkpoint=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.fit()
    return run


def picture(file):
    with Image.open(file) as image:
        return np.array(image)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    calls = []
    original = scoring.reference_from_data
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "UNIRAE_CACHE_DIR", str(folder / "cache")
        )  # another test may have kept the same reference
        patch.setattr(
            scoring,
            "reference_from_data",
            lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs),
        )
        run = train(
            folder,
            "model.sample_every=2",
            "callbacks.generation_metrics.every_n_steps=2",
            "logger.tensorboard=true",
        )
    return run, calls


def test_samples_after_the_first_the_due_and_the_last_step(finished):
    run, _ = finished
    files = sorted((output(run) / "samples").iterdir())
    assert [file.name for file in files] == [f"step-{step:07d}.png" for step in (1, 2, 3)]
    grid = picture(files[0])
    assert grid.shape == (32 + 4, 4 * 34 + 2, 3)  # four images of 32 px in a row
    assert not np.array_equal(grid, picture(files[2]))


def output(run):
    return next(c.folder.parent for c in run.trainer.callbacks if hasattr(c, "folder"))


def test_tensorboard_has_them(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = finished
    events = EventAccumulator(str(output(run) / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("val/samples")] == [1, 2, 3]


def test_tensorboard_has_the_settings(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run, _ = finished
    folder = output(run) / "tensorboard"
    events = EventAccumulator(str(folder)).Reload()
    assert "hp_metric" not in events.Tags()["scalars"]
    read = {
        tag.removeprefix("_hparams_/"): HParamsPluginData.FromString(content)
        for tag, content in events.PluginTagToContent("hparams").items()
    }
    (metric,) = read["experiment"].experiment.metric_infos
    assert metric.name.tag == "train/loss"
    assert metric.name.tag in events.Tags()["scalars"]
    settings = read["session_start_info"].session_start_info.hparams
    assert settings["model.optimizer.lr"].number_value == 2e-3
    assert settings["trainer.max_steps"].number_value == 3
    assert settings["model.dit.hidden_size"].string_value == "[16, 48]"
    assert settings["data.fast_resize"].string_value == "true"
    assert settings["data.latent_cache"].string_value == "null"
    assert yaml.safe_load((folder / "hparams.yaml").read_text())["model"]["optimizer"]["lr"] == 2e-3


def test_scores_are_written_published_and_complete(finished):
    run, calls = finished
    files = sorted((output(run) / "eval").iterdir())
    assert [file.name for file in files] == ["step-0000002.json", "step-0000003.json"]
    contents = [json.loads(file.read_text()) for file in files]
    last = contents[1]
    name = "fd_random_mae"
    assert set(last["metrics"]) == {name}
    assert last["metrics"][name] > 0
    assert last["count"] == 8
    settings = last["settings"]
    images = settings["images"]
    assert (images["step"], images["weights"]) == (3, "EMA")
    assert (images["sampler"]["num_steps"], images["sampler"]["label_sampling"]) == (3, "equal")
    assert settings["reference"]["fingerprint"]["split"] == "val"
    rows = read_metrics(output(run) / "csv/metrics.csv")
    logged = {int(row["step"]): float(row[f"val/{name}"]) for row in rows if row.get(f"val/{name}")}
    assert logged == pytest.approx({2: contents[0]["metrics"][name], 3: last["metrics"][name]}, rel=1e-5)
    assert run.scores[f"val/{name}"] == last["metrics"][name]
    assert calls == [1]


@pytest.mark.parametrize(
    ("stage", "callback"), [("stage1", "reconstruction_metrics"), ("stage2", "generation_metrics")]
)
@pytest.mark.usefixtures("names_of_commands")
def test_no_more_is_scored_than_the_split_has(stage, callback, tmp_path, caplog):
    key = f"callbacks.{callback}.num_samples"
    few = ["data.source.val_count=5", f"{key}=185"]
    with caplog.at_level(logging.INFO, logger="unirae"):
        train(tmp_path, *few, steps=1, stage=stage)
    (file,) = (tmp_path / "eval").iterdir()
    assert json.loads(file.read_text())["count"] == 5
    line = f"{key}=185, but the validation split has 5 images: 5 are scored"
    assert caplog.messages.count(line) == 1


def test_the_same_weights_give_the_same_pictures_and_scores(tmp_path):
    """A learning rate of zero: three evaluations of one network; noise and labels do not change."""
    run = train(
        tmp_path, "model.optimizer.lr=0.0", "model.scheduler.final_lr=0.0", "model.sample_every=1",
        "callbacks.generation_metrics.every_n_steps=1",
    )  # fmt: skip
    pictures = [file.read_bytes() for file in (tmp_path / "samples").iterdir()]
    assert len(pictures) == 3
    assert len(set(pictures)) == 1
    scores = [json.loads(file.read_text())["metrics"] for file in (tmp_path / "eval").iterdir()]
    assert scores[0] == scores[1] == scores[2]
    assert run.module.average is not run.module.denoiser


def test_labels_go_round_or_are_spread():
    assert spread_labels(5, 2) == (0, 1, 0, 1, 0)
    assert spread_labels(4, 1000) == (0, 250, 500, 750)
    assert spread_labels(3, 0) == ()


def test_without_labels(tmp_path):
    plain = {node: f"callbacks.{node}.cfg_scale=1.0" for node in ("samples", "generation_metrics")}
    train(tmp_path / "plain", "data.source.classes=0", *plain.values(), steps=1)
    assert (tmp_path / "plain/samples/step-0000001.png").is_file()
    for node, other in (("samples", "generation_metrics"), ("generation_metrics", "samples")):
        guided = (plain[other], f"callbacks.{node}.cfg_scale=2.0")
        with pytest.raises(
            ConfigError, match=rf"callbacks\.{node}\.cfg_scale=2\.0: guidance needs data with"
        ):
            train(tmp_path / node, "data.source.classes=0", *guided)
        assert not (tmp_path / node / "samples").exists()


EARLY = ("model.dit.base_head_depth=1", "model.base_loss_weight=0.5")
UNGUIDED = tuple(f"callbacks.{node}.cfg_scale=1.0" for node in ("samples", "generation_metrics"))


def test_internal_guidance_changes_pictures_and_scores_and_is_recorded(tmp_path):
    guided = tuple(
        f"callbacks.{node}.{setting}"
        for node in ("samples", "generation_metrics")
        for setting in ("ig_scale=3.0", "ig_interval=[0.1,1.0]")
    )
    train(tmp_path / "plain", *EARLY, *UNGUIDED, steps=1)
    train(tmp_path / "guided", *EARLY, *UNGUIDED, *guided, steps=1)
    plain, other = (
        json.loads((tmp_path / run / "eval/step-0000001.json").read_text()) for run in ("plain", "guided")
    )
    sampler = other["settings"]["images"]["sampler"]
    assert (sampler["ig_scale"], sampler["ig_interval"], sampler["guidance"]) == (3.0, [0.1, 1.0], "internal")
    assert "ig_scale" not in plain["settings"]["images"]["sampler"]
    assert plain["metrics"] != other["metrics"]
    drawn = {run: picture(tmp_path / run / "samples/step-0000001.png") for run in ("plain", "guided")}
    assert not np.array_equal(drawn["plain"], drawn["guided"])
    assert len(epochs_to(tmp_path / "plain", "fd_random_mae", 0.1).scored) == 1
    with pytest.raises(DataError, match="guided samples alone"):
        epochs_to(tmp_path / "guided", "fd_random_mae", 0.1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("callbacks.samples.ig_scale=1.5", "callbacks.generation_metrics.ig_scale=2"),
            r"samples\.ig_scale=1\.5 and callbacks\.generation_metrics\.ig_scale=2.*: internal guidance needs a "
            r"network .*set model\.dit\.base_head_depth, or callbacks\.samples\.ig_scale=1\.0 callbacks\.gen",
        ),
        (
            ("callbacks.samples.ig_unconditional_scale=0.5", "callbacks.samples.cfg_scale=2.0"),
            r"callbacks\.samples\.ig_unconditional_scale=0\.5: internal guidance needs",
        ),
        (
            (*EARLY, "callbacks.samples.ig_interval=[0.9,0.1]"),
            r"callbacks\.samples\.ig_interval=\[0\.9,0\.1\]: give \[low, high\]",
        ),
    ],
)
def test_internal_guidance_that_cannot_work_shows_before_the_first_step(overrides, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, *UNGUIDED, *overrides)
    assert not (tmp_path / "samples").exists()


def test_no_metrics_and_both_clocks(tmp_path):
    train(tmp_path, "callbacks.generation_metrics.metrics=[]", steps=1)
    assert not (tmp_path / "eval").exists()
    with pytest.raises(ConfigError, match=r"callbacks\.generation_metrics: set every_n_steps or"):
        train(
            tmp_path,
            "callbacks.generation_metrics.every_n_steps=2",
            "callbacks.generation_metrics.every_n_epochs=1",
        )


def test_mistakes_show_before_the_first_step(tmp_path):
    with pytest.raises(ConfigError, match="each fid, sfid"):
        train(tmp_path, "callbacks.generation_metrics.metrics=[rfid]")
    assert not list(tmp_path.glob("samples/*"))


def test_a_latent_cache_leaves_fd_out(tmp_path):
    rae = write_checkpoint(tmp_path / "rae")
    content = load_tensors(rae)
    content["unirae"]["latent_stats"] = some_stats().to_dict()
    save_tensors(rae, content)
    cached = (
        f"model.rae.pretrained_decoder_path={rae}",
        "model.rae.decoder_weights=null",
        f"data.latent_cache={tmp_path / 'cache'}",
    )
    with pytest.raises(ConfigError, match="needs the encoder that"):
        train(tmp_path / "run", *cached)
    fid = (
        "callbacks.generation_metrics.metrics=[fid]",
        "callbacks.generation_metrics.inception_weights=random",
    )
    run = train(tmp_path / "run", *cached, *fid, "callbacks.generation_metrics.num_samples=2", steps=1)
    assert set(run.scores) == {"val/fid_random_inception"}
