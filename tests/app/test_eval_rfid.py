"""The eval_rfid command: a checkpoint is enough, every setting is recorded, mistakes are one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from processes import command_in_processes
from tiny_checkpoint import DATA, write_checkpoint
from unirae.app import eval_rfid
from unirae.app.eval_rfid import Options, main, run
from unirae.app.inputs.images import open_images
from unirae.app.reconstruct import list_images
from unirae.app.run.builders import build_dataset
from unirae.app.shell.devices import choose_data, pick_device
from unirae.core.errors import ConfigError, DataError, WeightsError

SOURCES = Path(__file__).parents[2] / "src"


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "run")


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        file = tmp_path / "pictures" / "with = odd, name" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 50), (40 * i, 100, 255 - 30 * i)).save(file)
    return tmp_path / "pictures"


def _options(checkpoint, **options):
    return Options(checkpoint=checkpoint, metrics="rfd,psnr,ssim", device="cpu", **options)


def test_a_checkpoint_is_enough(checkpoint, capsys):
    result = run(_options(checkpoint))
    assert result.count == 12
    assert set(result.scores) == {"rfd_random_mae", "psnr", "ssim"}
    (file,) = (checkpoint.parents[1] / "eval").iterdir()
    assert re.fullmatch(r"rfid-last-ema-synthetic-12-[0-9a-f]{8}\.json", file.name)
    settings = json.loads(file.read_text())["settings"]["images"]
    assert settings["weights"] == "EMA"
    assert settings["trained_with"]["step"] == 7
    assert len(settings["checkpoint_sha256"]) == 64
    assert settings["fingerprint"]["split"] == "val"
    assert settings["crop"].endswith("AdmCenterCrop")
    assert "rfd_random_mae@12" in capsys.readouterr().out


def test_different_settings_go_to_different_files(checkpoint, folder, tmp_path):
    """And the same ones to the same file."""
    Image.new("RGB", (40, 50)).save(tmp_path / "0.png")
    other = tmp_path / "other"
    other.mkdir()
    for i in range(5):
        Image.new("RGB", (40, 50), (i, i, i)).save(other / f"{i}.png")
    others = [
        {"num_samples": 6},
        {"num_samples": 6, "seed": 1},
        {"precision": "bf16"},
        {"use_ema": False},
        {"data": str(folder)},
        {"data": str(other)},
    ]
    for options in ({}, {"seed": 1}, {"batch_size": 5}, *others):
        run(_options(checkpoint, **options))
    run(Options(checkpoint=checkpoint, metrics="psnr", device="cpu"))
    assert len(list((checkpoint.parents[1] / "eval").iterdir())) == 2 + len(others)


def test_raw_and_averaged_decoder_differ(checkpoint, tmp_path):
    averaged = run(_options(checkpoint, output=tmp_path / "a.json")).scores
    raw = run(_options(checkpoint, output=tmp_path / "b.json", use_ema=False)).scores
    assert averaged["psnr"] != raw["psnr"]


def test_every_image_of_a_folder(checkpoint, folder, tmp_path):
    output = tmp_path / "scores.json"
    result = run(_options(checkpoint, data=str(folder), output=output))
    assert result.count == 5
    assert json.loads(output.read_text())["metrics"] == result.scores


def test_a_named_data_set_and_a_subset(checkpoint):
    assert run(_options(checkpoint, data="synthetic", num_samples=6)).count == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": "imagnet"}, ConfigError, "neither a folder, a tar nor one of emoji"),
        ({"data": "image_folder", "data_dir": Path("nowhere")}, DataError, "nowhere"),
        ({"data_dir": Path("nowhere")}, ConfigError, "not read from a folder"),
        ({"num_samples": 13}, DataError, "has 12 images"),
        ({"device": "abacus"}, ConfigError, "abacus"),
    ],
)
def test_mistakes(checkpoint, options, error, message):
    with pytest.raises(error, match=message):
        run(Options(**{"checkpoint": checkpoint, "metrics": "psnr", "device": "cpu"} | options))
    assert not (checkpoint.parents[1] / "eval").exists()


@pytest.mark.usefixtures("names_of_commands")
def test_missing_inception_weights_name_the_ways_out(checkpoint):
    with pytest.raises(WeightsError, match="--inception_weights") as caught:
        run(Options(checkpoint=checkpoint, inception_weights="absent.pth", device="cpu"))
    assert "https://" in str(caught.value)
    assert "--metrics rfd,psnr,ssim" in str(caught.value)


def test_main_turns_a_mistake_into_a_line_and_a_status(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        sys, "argv", ["eval_rfid", "--checkpoint", str(tmp_path / "no.ckpt"), "--use_ema", "true"]
    )
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: no checkpoint at")


def test_the_checkpoints_data_may_have_moved(folder):
    trained_on = DATA | {"source": {"_target_": "unirae.data.folder.FolderSource", "data_dir": "gone"}}
    moved = choose_data(None, folder, trained_on)
    assert moved["source"]["data_dir"] == moved["data_dir"] == str(folder)
    assert choose_data(None, None, DATA) == DATA


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cuda", "mps", "cpu")


def test_two_processes_give_the_same_scores(checkpoint, tmp_path):
    expected = run(_options(checkpoint, output=tmp_path / "one.json")).scores
    words = ["--checkpoint", checkpoint, "--device", "cpu", "--metrics", "rfd,psnr,ssim"]
    command_in_processes("eval_rfid", *words, "--output", tmp_path / "two.json")
    assert json.loads((tmp_path / "two.json").read_text())["metrics"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("given", [None, 3])
def test_the_number_of_threads_is_fixed(checkpoint, monkeypatch, given):
    """Torchrun would set one for several processes, and the scores would depend on it."""
    threads, evaluate = [], eval_rfid.evaluate

    def observed(*args):
        threads.append(torch.get_num_threads())
        return evaluate(*args)

    monkeypatch.setattr(eval_rfid, "evaluate", observed)
    run(_options(checkpoint, num_samples=4, num_threads=given))
    assert threads == [given or len(os.sched_getaffinity(0))]
    with pytest.raises(ConfigError, match="--num_threads 0 must be at least 1"):
        run(_options(checkpoint, num_threads=0))


@pytest.mark.parametrize("script", ["eval_rfid", "reconstruct"])
def test_help_is_quick(script):
    command = [sys.executable, "-X", "importtime", SOURCES / f"{script}.py", "--help"]
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0
    assert "--checkpoint" in finished.stdout
    assert "torch" not in {line.split("|")[-1].strip() for line in finished.stderr.splitlines()}


def test_images_beside_folders_count_as_they_do_for_evaluate_and_reconstruct(checkpoint, folder):
    """Classes say nothing of a reconstruction, so nothing has to lie in a folder of its class."""
    for name in ("beside.png", "more.png"):
        Image.new("RGB", (40, 50), (len(name), 9, 9)).save(folder / name)
    assert run(_options(checkpoint, data=str(folder))).count == 7
    assert len(open_images(str(folder), size=32).images) == len(list_images([folder])) == 7
    with pytest.raises(DataError, match="2 images outside of the class folders 'with = odd, name'"):
        build_dataset(choose_data(str(folder), None, {}, split="train"), split="train", size=32, use="eval")
