"""The eval_linear_probe command: what pretraining gave, every kind of encoder, mistakes in one line."""

import json
import logging
import os
import re
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from tiny_checkpoint import write_checkpoint
from unirae.app import eval_linear_probe
from unirae.app.config.composition import compose
from unirae.app.eval_linear_probe import Options, main, run
from unirae.app.inputs.encoder import find_encoder
from unirae.app.pictures.confusion import save_confusion
from unirae.app.run.assembly import assemble
from unirae.core.errors import ConfigError, DataError, WeightsError
from unirae.models.encoders.mae import MaeEncoder
from unirae.models.encoders.timm import TimmEncoder

ARCHITECTURE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.fixture(autouse=True)
def _logging_stays():
    """Commands configure the root logger for their process; tests share one."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("rae"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two classes, with a validation split."""
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 6), ("val", 4)):
        for label, colour in (("blue", (20, 40, 220)), ("red", (220, 40, 20))):
            for i in range(count):
                file = root / split / label / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 50), tuple(c + 3 * i for c in colour)).save(file)
    return root


def options(encoder_checkpoint: str | Path, tmp_path: Path, **others) -> Options:
    given = {"output": tmp_path / "probe.json", "weight_decays": "0.01,0.1"}
    given |= {"device": "cpu", "num_threads": 1} | others
    return Options(encoder_checkpoint=str(encoder_checkpoint), cache_dir=tmp_path / "cache", **given)


# ---------------------------------------------------------------- what pretraining gave

PHOTOS = (
    "experiment=mae_tiny",
    "data=photos",
    "+data.source.train_crops_per_photo=128",
    "+data.source.val_crops_per_photo=64",
    "data.num_workers=0",
    "trainer.precision=32-true",
    "trainer.max_steps=300",  # of three seeds all keep the limits below; at 200 one did not
    "logger.tensorboard=false",
    "model.architecture.image_size=32",
    "model.architecture.patch_size=8",
    "model.architecture.hidden_size=64",
    "model.architecture.num_hidden_layers=3",
    "model.architecture.num_attention_heads=2",
    "model.architecture.intermediate_size=256",
    "model.architecture.decoder_hidden_size=64",
    "model.architecture.decoder_num_hidden_layers=1",
    "model.architecture.decoder_intermediate_size=256",
    "model.architecture.mask_ratio=0.6",
    "model.architecture.norm_pix_loss=true",
    "model.visible_weight=0.0",
)


def pretrain(folder: Path, *overrides: str) -> Path:
    config = compose([*overrides, f"paths.output_dir={folder}"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assemble(config, experiment="mae_tiny", checkpoint=None).fit()
    return folder


def test_a_pretrained_tiny_encoder_beats_its_random_initialisation_and_raw_pixels(tmp_path):
    """Really trained here, in seconds, on crops of photographs; scored on their other ends."""
    encoder = pretrain(tmp_path / "encoder", *PHOTOS)
    report = run(options(encoder, tmp_path, weight_decays="0.01,0.1"))
    assert report.result.count == 512
    content = json.loads((tmp_path / "probe.json").read_text())
    # Over the pixels the seeds tried gain 0.05 to 0.09, so only what chance may do can be asked on every processor.
    for name, least in (("random", 0.05), ("pixels", 0.0)):
        gain = content["baselines"][name]["gain_over_it"]
        assert gain["top1"] > max(least, 2 * gain["standard_error"]), (name, gain)


@pytest.mark.slow
def test_so_does_the_demos_encoder_on_emoji(tmp_path):
    """Three minutes of training. 185 validation images are too few to ask for more than a positive gain."""
    encoder = pretrain(tmp_path / "encoder", "experiment=mae_tiny")
    report = run(options(encoder, tmp_path, pooling="both", weight_decays=Options.weight_decays))
    for name in ("random", "pixels"):
        assert report.result.metrics["top1"] > report.baselines[name].metrics["top1"], name


# ---------------------------------------------------------------- the command


def test_a_checkpoint_and_a_folder_of_images(checkpoint, folder, tmp_path, capsys):
    report = run(options(checkpoint, tmp_path, data=str(folder), pooling="both"))
    assert report.result.count == 8
    assert report.class_names == ("blue", "red")
    content = json.loads((tmp_path / "probe.json").read_text())
    settings = content["settings"]
    assert set(content["metrics"]) == {"top1", "knn"}
    assert any("no top5" in warning for warning in content["warnings"])
    assert len(settings["checkpoint_sha256"]) == len(settings["features"]["sha256"]) == 64
    assert settings["trained_with"]["step"] == 7
    assert settings["features"]["pooling"] == "both"
    assert settings["feature_width"] == 32
    assert settings["training_images"] == 12
    assert settings["fingerprints"]["train"] != settings["fingerprints"]["val"]
    assert settings["chosen"] in settings["tried"]
    assert {"unirae", "torch"} <= set(settings["versions"])
    assert set(content["baselines"]) == {"random", "pixels"}
    assert content["baselines"]["pixels"]["metrics"]["top1"] == 1.0  # blue or red
    assert content["baselines"]["random"]["settings"]["features"]["weights"] == "random"
    with Image.open(tmp_path / "probe.png") as picture:
        assert picture.width > 300
    assert "pixels" in capsys.readouterr().out


def test_the_checkpoint_knows_its_data_and_the_place_of_results(tmp_path):
    file = write_checkpoint(tmp_path / "run")
    report = run(options(file, tmp_path, output=None, baselines="none"))
    assert (report.result.count, report.baselines) == (12, {})
    names = sorted(path.name for path in (tmp_path / "run" / "eval").iterdir())
    assert re.fullmatch(r"linear-probe-last-synthetic-avg-[0-9a-f]{8}\.json", names[0])
    assert names[1] == names[0].replace(".json", ".png")


def test_different_settings_go_to_different_files(folder, tmp_path):
    """And the same ones to the same file."""
    file, other = write_checkpoint(tmp_path / "run"), tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "val/red/0.png").rename(other / "val/red/00.png")
    others = [
        {"seed": 1},
        {"optimizer": "sgd", "epochs": 3},
        {"optimizer": "sgd", "epochs": 4},
        {"weight_decays": "0.1"},
        {"k": 3},
        {"pooling": "cls"},
        {"baselines": "pixels"},
        {"data": str(folder)},
        {"data": str(other)},
    ]
    for options_of in ({}, {"batch_size": 16, "cache": False}, *others):
        run(options(file, tmp_path, **{"output": None, "baselines": "none", **options_of}))
    assert len(list((tmp_path / "run" / "eval").glob("*.json"))) == 1 + len(others)


def test_features_are_computed_once(checkpoint, folder, tmp_path, monkeypatch):
    first = run(options(checkpoint, tmp_path, data=str(folder)))
    # two splits each of the pixels and of this encoder, which is its own random twin
    assert len(list((tmp_path / "cache" / "probe_features").iterdir())) == 4
    assert any("random" in warning for warning in first.result.warnings)
    monkeypatch.setattr(
        "unirae.evaluation.probe.features.extract_features", lambda *a, **k: pytest.fail("computed again")
    )
    again = run(options(checkpoint, tmp_path, data=str(folder)))
    assert again.result.metrics == first.result.metrics
    with pytest.raises(pytest.fail.Exception):
        run(options(checkpoint, tmp_path, data=str(folder), cache=False))


def test_unreadable_images_are_replaced_and_counted(folder, tmp_path, capsys):
    """Links to nowhere and files that are no pictures, in both splits, as the case ``dangling`` has them."""
    root = tmp_path / "pictures"
    shutil.copytree(folder, root)
    (root / "train/blue/gone.png").symlink_to("/nowhere/gone.png")
    (root / "val/red/9.png").write_bytes(b"")
    for _ in range(2):  # the second time from the kept features
        report = run(options("pixels", tmp_path, data=str(root), pixels_px=8, baselines="none"))
        assert report.result.count == 9
        assert "others stand in for 2 unreadable images" in report.result.warnings
        content = json.loads((tmp_path / "probe.json").read_text())
        assert "others stand in for 2 unreadable images" in content["warnings"]
    said = capsys.readouterr().err
    assert said.count("replaced unreadable image") == 2
    assert "others stand in for 2 unreadable images" in said


def test_a_first_run_says_once_that_nothing_is_kept(checkpoint, folder, tmp_path, capsys):
    run(options(checkpoint, tmp_path, data=str(folder)))
    assert capsys.readouterr().err.count("as its images are now, are kept in") == 1


def test_pixels_in_the_place_of_an_encoder_and_sgd(folder, tmp_path):
    report = run(options("pixels", tmp_path, data=str(folder), optimizer="sgd", epochs=20, pixels_px=8))
    assert report.result.metrics["top1"] == 1.0
    assert report.result.settings["feature_width"] == 8 * 8 * 3
    assert report.result.settings["chosen"]["learning_rate"] in (0.003, 0.01, 0.03, 0.1)
    assert report.baselines == {}


def test_a_folder_in_transformers_format_and_a_file_of_timm(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    backbone = MaeEncoder.skeleton(ARCHITECTURE)
    backbone.save_pretrained(tmp_path / "mae")
    found = find_encoder(str(tmp_path / "mae"), kind=None, model_name=None, weights=None)
    assert found.encoder is not None
    assert (found.encoder.identity.kind, found.input_size, found.data) == ("mae", (32, 32), None)
    state = found.encoder.backbone.state_dict()
    assert all(torch.equal(state[name], backbone.state_dict()[name]) for name in state)

    name = "vit_tiny_patch16_224"
    backbone = TimmEncoder.skeleton({"model_name": name})
    save_file(backbone.state_dict(), tmp_path / "timm.safetensors")
    found = find_encoder(str(tmp_path / "timm.safetensors"), kind="timm", model_name=name, weights=None)
    assert found.encoder is not None
    assert found.input_size == (224, 224)
    state = found.encoder.backbone.state_dict()
    assert all(torch.equal(state[key], backbone.state_dict()[key]) for key in state)


@pytest.mark.parametrize("given", [None, 3])
def test_the_number_of_threads_is_fixed(folder, tmp_path, monkeypatch, given):
    threads, evaluate = [], eval_linear_probe.evaluate

    def observed(*args):
        threads.append(torch.get_num_threads())
        return evaluate(*args)

    monkeypatch.setattr(eval_linear_probe, "evaluate", observed)
    run(options("pixels", tmp_path, data=str(folder), num_threads=given))
    assert threads == [given or len(os.sched_getaffinity(0))]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"encoder_checkpoint": "nowhere/at-all"}, WeightsError, "no encoder nowhere/at-all.*hf download"),
        ({"encoder_checkpoint": "nowhere.ckpt"}, WeightsError, "no checkpoint at nowhere"),
        ({"encoder_checkpoint": "pixels"}, ConfigError, "pixels does not say what to probe it on"),
        (
            {"baselines": "rand"},
            ConfigError,
            "--baselines rand is unknown; choose of random, pixels, or none",
        ),
        ({"weight_decays": "a,b"}, ConfigError, "--weight_decays a,b: give numbers"),
        ({"k": 0}, ConfigError, "k=0 must be at least 1"),
        ({"epochs": 0}, ConfigError, "epochs=0 must be at least 1"),
        ({"held_out": 2.0}, ConfigError, "held_out=2.0 must lie between 0 and 1"),
        ({"input_size": 33, "data": "FOLDER"}, ConfigError, "33 must be divisible by patch_size=8"),
        ({"data": "one_image"}, DataError, "are of one class"),
        ({"encoder_name": "vit", "encoder_checkpoint": "MAE"}, ConfigError, "--encoder_name"),
    ],
)
def test_mistakes(checkpoint, folder, tmp_path, given, error, message):
    if given.get("data") == "FOLDER":
        given = given | {"data": str(folder)}
    if given.get("encoder_checkpoint") == "MAE":
        MaeEncoder.skeleton(ARCHITECTURE).save_pretrained(tmp_path / "mae")
        given = given | {"encoder_checkpoint": str(tmp_path / "mae")}
    with pytest.raises(error, match=message):
        run(options(given.pop("encoder_checkpoint", checkpoint), tmp_path, **given))
    assert not (tmp_path / "probe.json").exists()


def test_main_turns_a_mistake_into_a_line_and_a_status(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        sys,
        "argv",
        ["eval_linear_probe", "--encoder_checkpoint", str(tmp_path / "no.ckpt"), "--cache", "false"],
    )
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: no checkpoint at")


@pytest.mark.parametrize("classes", [2, 9, 40, 1000])
def test_a_confusion_matrix_of_any_size_is_a_picture(tmp_path, classes):
    generator = torch.Generator().manual_seed(0)
    confusion = torch.randint(9, (classes, classes), generator=generator)
    confusion[1] = 0  # a class without images
    names = [f"$class_{k} with a rather long name" for k in range(classes)]
    with Image.open(save_confusion(tmp_path / "confusion.png", confusion, names)) as picture:
        assert min(picture.size) > 400
        assert max(picture.size) < 2500
        assert len(picture.convert("L").getcolors(256) or range(300)) > 10
