"""The compute_stats command: a checkpoint goes in, a copy with latent statistics comes out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from processes import command_in_processes
from tiny_checkpoint import write_checkpoint
from unirae.app.compute_stats import Options, choose_transform, main, run
from unirae.core.errors import ConfigError, DataError
from unirae.core.io import file_sha256
from unirae.models.checkpoints.opening import load_rae

SOURCES = Path(__file__).parents[2] / "src"


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "run")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "with-stats" / "rae.ckpt"


def _options(checkpoint, output, **options):
    return Options(
        **{"checkpoint": checkpoint, "output": output, "data": "synthetic", "device": "cpu"} | options
    )


def test_the_copy_differs_in_its_statistics_alone(checkpoint, output):
    before = file_sha256(checkpoint)
    stats = run(_options(checkpoint.parents[1], output, num_samples=40))
    assert file_sha256(checkpoint) == before
    old, new = (torch.load(path, weights_only=True) for path in (checkpoint, output))
    found = new["unirae"].pop("latent_stats")
    assert old["unirae"].pop("latent_stats") is None
    assert new["unirae"].pop("encoder_state").keys() == old["unirae"].pop("encoder_state").keys()
    assert new["unirae"] == old["unirae"]
    assert all(torch.equal(new["state_dict"][key], value) for key, value in old["state_dict"].items())
    assert torch.equal(found["mean"], stats.mean)
    assert found["info"]["checkpoint_sha256"] == before
    json.dumps(found["info"])


def test_load_rae_has_them_and_normalises(checkpoint, output):
    run(_options(checkpoint, output, data=None))
    rae, plain = load_rae(output), load_rae(checkpoint)
    images = torch.rand(2, 3, 32, 32)
    assert rae.stats.shape == rae.latent_shape
    assert rae.stats.info["count"] == 4
    torch.testing.assert_close(rae.encode(images), rae.stats.normalise(plain.encode(images)))
    torch.testing.assert_close(rae.decode(rae.encode(images)), plain.reconstruct(images))


def test_per_channel(checkpoint, output):
    run(_options(checkpoint, output, per="channel", num_samples=40))
    assert load_rae(output).stats.shape == (16, 1, 1)


@pytest.mark.parametrize(
    ("choice", "data", "chosen"),
    [
        ("stage2", {"train": "ScaleShift", "stage2": "AdmCenterCrop"}, "AdmCenterCrop"),
        ("stage2", {"train": "Stage1Transform", "stage2": "ScaleShift"}, "ScaleShift"),
        ("adm_crop_flip", {"train": "ScaleShift", "stage2": "ScaleShift"}, "AdmCropFlip"),
        ("adm_crop", {"train": "Stage1Transform"}, "AdmCenterCrop"),
        ("stage2", {"train": "Stage1Transform"}, "AdmCropFlip"),  # checkpoints of before stage 2
        ("stage2", {"train": "ScaleShift"}, "AdmCenterCrop"),
    ],
)
def test_the_transform(choice, data, chosen):
    name = "unirae.data.transforms."
    nodes = {f"{use}_transform": {"_target_": name + kind} for use, kind in data.items()}
    assert choose_transform(choice, nodes) == {"_target_": name + chosen}


def test_the_training_part_of_a_folder(checkpoint, output, tmp_path):
    for part, count in (("train", 5), ("val", 3)):
        for i in range(count):
            file = tmp_path / "pictures" / part / "class" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 50), (40 * i, 100, 255 - 30 * i)).save(file)
    info = run(_options(checkpoint, output, data=str(tmp_path / "pictures"))).info
    assert (info["count"], info["transform"]["name"]) == (5, "AdmCropFlip")
    flat = run(
        _options(checkpoint, tmp_path / "b.ckpt", data=str(tmp_path / "pictures" / "train" / "class"))
    ).info
    assert 2 <= flat["count"] <= 5


def test_what_exists_is_never_overwritten(checkpoint, output):
    with pytest.raises(ConfigError, match="is the checkpoint itself"):
        run(_options(checkpoint.parents[1], checkpoint, num_samples=40))
    output.parent.mkdir()
    output.write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        run(_options(checkpoint, output, num_samples=40))
    assert output.read_text() == "precious"


def test_mistakes_leave_no_file(checkpoint, output):
    with pytest.raises(DataError, match="num_samples=2000"):
        run(_options(checkpoint, output, num_samples=2000))
    assert not output.exists()


def test_main_turns_a_mistake_into_a_line_and_a_status(monkeypatch, capsys, tmp_path):
    arguments = ["--checkpoint", str(tmp_path / "no.ckpt"), "--output", str(tmp_path / "o.ckpt")]
    monkeypatch.setattr(sys, "argv", ["compute_stats", *arguments])
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: no checkpoint at")


def test_two_processes_give_the_same_statistics(checkpoint, output, tmp_path):
    expected = run(_options(checkpoint, output, num_samples=40))
    words = ["--checkpoint", checkpoint, "--device", "cpu", "--data", "synthetic", "--num_samples", 40]
    command_in_processes("compute_stats", *words, "--output", tmp_path / "two.ckpt")
    stats = load_rae(tmp_path / "two.ckpt").stats
    torch.testing.assert_close(stats.mean, expected.mean, rtol=2e-7, atol=1e-8)
    torch.testing.assert_close(stats.var, expected.var, rtol=2e-7, atol=1e-8)
    assert stats.info == expected.info


def test_help_is_quick():
    command = [sys.executable, "-X", "importtime", SOURCES / "compute_stats.py", "--help"]
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0
    assert "--output" in finished.stdout
    assert "torch" not in {line.split("|")[-1].strip() for line in finished.stderr.splitlines()}
