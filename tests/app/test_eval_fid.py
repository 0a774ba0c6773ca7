"""The eval_fid command: one command from a checkpoint to a score with every setting."""

import json
import re
import shutil
import sys

import numpy as np
import pytest

from processes import command_in_processes
from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from unirae.app.eval_fid import Options, main, run
from unirae.core.errors import ConfigError, DataError, WeightsError

NAME = "fd_random_mae"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_checkpoint(root / "rae")
    write_stage2_checkpoint(root / "dit", root / "rae")
    return root


@pytest.fixture
def score(runs, tmp_path):
    def run_with(**options):
        defaults = {"num_samples": 11, "num_steps": 3, "batch_size": 4, "metrics": "fd", "num_threads": 1}
        defaults |= {"device": "cpu", "output": tmp_path / "scores.json", "checkpoint": runs / "dit"}
        return run(Options(**{**defaults, **options}))

    return run_with


def write_npz(path, width=2048, **arrays):
    content = arrays if arrays else {"mu": np.zeros(width), "sigma": np.eye(width)}
    np.savez(path, **content)
    return str(path)


def test_the_training_split_is_the_reference(score, runs, capsys):
    result = score(output=None, cfg_scale=1.5, label_sampling="random")
    (file,) = (runs / "dit/eval").iterdir()
    assert re.fullmatch(r"fid-last-ema-train-euler3-cfg1\.5-11-[0-9a-f]{8}\.json", file.name)
    content = json.loads(file.read_text())
    assert content["metrics"] == result.scores
    assert set(result.scores) == {NAME}
    assert result.scores[NAME] > 0
    settings = content["settings"]
    assert settings["reference"]["fingerprint"]["split"] == "train"
    assert settings["reference"]["crop"] == "AdmCenterCrop"
    assert settings["reference"]["count"] == 4
    sampler = settings["images"]["sampler"]
    assert (sampler["label_sampling"], sampler["cfg_scale"], sampler["seed"]) == ("random", 1.5, 0)
    assert (sampler["weights"], len(sampler["checkpoint_sha256"])) == ("EMA 0.999", 64)
    assert settings["network_evaluations"] == [2]
    shown = capsys.readouterr().out
    assert f"{NAME}@11" in shown
    assert "random labels" in shown


def test_different_settings_go_to_different_files(score, runs, tmp_path):
    """And the same ones to the same file."""
    run_folder = tmp_path / "dit"
    shutil.copytree(runs / "dit/checkpoints", run_folder / "checkpoints")
    others = [
        {"seed": 1},
        {"label_sampling": "random"},
        {"time_grid": "to_zero"},
        {"guidance_interval": (0.0, 0.5)},
        {"guide_checkpoint": runs / "dit"},
        {"reference_samples": 3},
        {"trunk_every": 2},
    ]
    for options in ({}, {}, *others):
        score(checkpoint=run_folder, rae=runs / "rae", output=None, num_samples=4, cfg_scale=1.5, **options)
    assert len(list((run_folder / "eval").iterdir())) == 1 + len(others)


def test_other_references(score):
    train = score().scores[NAME]
    validation = score(split="val")
    assert validation.settings["reference"]["count"] == 12
    assert validation.scores[NAME] != train
    other = score(data="synthetic", reference_samples=20).settings["reference"]
    assert (other["count"], other["count_available"], other["subset_seed"]) == (20, 1024, 0)


def test_another_batch_size_gives_nearly_the_same_score(score):
    """The network's last digits differ with it, and here and there a pixel by one level."""
    assert score(batch_size=11).scores[NAME] == pytest.approx(score().scores[NAME], rel=1e-3)


def test_two_processes_give_the_same_score(score, runs, tmp_path):
    expected = score()
    words = ["--checkpoint", runs / "dit", "--device", "cpu", "--num_threads", 1, "--metrics", "fd"]
    words += ["--num_samples", 11, "--num_steps", 3, "--batch_size", 4, "--output", tmp_path / "two.json"]
    command_in_processes("eval_fid", *words)
    content = json.loads((tmp_path / "two.json").read_text())
    assert content["metrics"] == pytest.approx(expected.scores, rel=1e-9)
    assert content["settings"] == json.loads(json.dumps(expected.settings))


def test_inception_against_a_file(score, tmp_path):
    reference = write_npz(tmp_path / "reference.npz")
    options = {"metrics": "fid", "inception_weights": "random", "num_samples": 3}
    result = score(reference=reference, **options)
    assert set(result.scores) == {"fid_random_inception"}
    identity = result.settings["reference"]
    assert (identity["file"], len(identity["sha256"])) == ("reference.npz", 64)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"metrics": "fid", "inception_weights": "random", "reference": "no.npz"},
            DataError,
            "no such file: no.npz",
        ),
        (
            {"metrics": "fid", "inception_weights": "no.pth"},
            WeightsError,
            "--inception_weights.*--metrics fd",
        ),
        ({"metrics": "rfid"}, ConfigError, "give some of fid, sfid"),
        ({"num_samples": 1}, DataError, "at least 2 images"),
        ({"data": "imagnet"}, ConfigError, "neither a folder, a tar nor one of"),
        ({"reference_samples": 9}, DataError, "has 4 images"),
        (
            {"reference_split": "val"},
            ConfigError,
            "--reference_split val chooses a part of what --reference names.*with --split train or --split val",
        ),
        (
            {"reference": "pictures", "split": "val"},
            ConfigError,
            "--split val chooses a part of the checkpoint's data.*--reference pictures.*with --reference_split",
        ),
        ({"reference": "pictures", "split": "train"}, ConfigError, "--split train chooses"),
        (
            {"reference": "pictures", "data": "emoji"},
            ConfigError,
            "--data names the reference, and so does --reference pictures; leave one out",
        ),
    ],
)
@pytest.mark.usefixtures("names_of_commands")
def test_mistakes(score, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        score(**options)
    assert not (tmp_path / "scores.json").exists()


def test_main_turns_a_mistake_into_a_line_and_a_status(monkeypatch, capsys, runs):
    monkeypatch.setattr(sys, "argv", ["eval_fid", "--checkpoint", str(runs / "rae"), "--metrics", "fd"])
    assert main() == 2
    assert "a 'stage2' one is needed" in capsys.readouterr().err


def test_a_published_file_serves_no_encoder(score, tmp_path):
    with pytest.raises(ConfigError, match="fd_random_mae needs those of random_mae/pooled"):
        score(reference=write_npz(tmp_path / "reference.npz"))


def test_more_scores_in_the_same_pass(score, tmp_path):
    """With a reference of images, as ADM's samples are distributed."""
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    reference = write_npz(tmp_path / "images.npz", arr_0=images)
    options = {"metrics": "fid,kid,precision,is", "inception_weights": "random", "num_samples": 10}
    result = score(reference=reference, **options)
    names = {"fid", "kid", "precision", "is"}
    assert set(result.scores) == {f"{name}_random_inception" for name in names}
    assert result.settings["reference"]["count"] == 8
    assert result.settings["metrics"]["precision_random_inception"]["neighbours"] == 3
