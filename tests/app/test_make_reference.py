"""The make_reference command: one file that says what it is, the same for every batch size and process count."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch

from processes import command_in_processes
from tiny_checkpoint import write_checkpoint
from tiny_images import pixels, write_extractor, write_folder
from unirae.app.make_reference import Options, main, run
from unirae.core.cache import cache_dir
from unirae.core.errors import ConfigError, DataError, WeightsError
from unirae.core.hardware import fastest_float32_matmul
from unirae.evaluation.references.reference_file import read_reference
from unirae.evaluation.scores.record import warn_once

KEY = "toy_features/pooled"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Empty but for how this machine multiplies, which the tests' own products follow, too."""
    torch.set_float32_matmul_precision(fastest_float32_matmul("cpu"))
    cache = tmp_path_factory.mktemp("cache")
    shutil.copytree(cache_dir() / "hardware", cache / "hardware")
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(cache))
    warn_once.cache_clear()


@pytest.fixture
def encoder(tmp_path):
    return write_extractor(tmp_path / "code")


@pytest.fixture
def data(tmp_path):
    return write_folder(tmp_path / "data" / "val", pixels(21))


@pytest.fixture
def make(tmp_path, data, encoder):
    def run_with(name="reference.npz", **options):
        defaults = {"data": str(data), "metrics": "fd", "encoder": encoder, "device": "cpu", "num_threads": 1}
        return run(Options(output=tmp_path / name, **defaults | options))

    return run_with


def arrays(file):
    with np.load(file) as content:
        found = {key: content[key] for key in content.files}
    return found, json.loads(str(found.pop("about")))


def test_what_the_file_holds(make, data, capsys):
    found, about = arrays(make())
    assert set(found) == {f"{KEY}.mu", f"{KEY}.sigma", "image_hashes"}
    assert (found[f"{KEY}.mu"].shape, found[f"{KEY}.sigma"].shape) == ((6,), (6, 6))
    assert found["image_hashes"].shape == (21,)
    identity = about["identity"]
    assert {key: identity[key] for key in ("data", "crop", "count", "size_px", "purpose", "duplicates")} == {
        "data": "image_folder",
        "crop": "AsStored",
        "count": 21,
        "size_px": [16, 16],
        "purpose": "generation",
        "duplicates": 0,
    }
    assert identity["fingerprint"]["path"] == str(data)
    extractor = about["extractors"]["toy_features"]
    assert (extractor["file"], len(extractor["file_sha256"]), len(extractor["sha256"])) == ("toy.py", 64, 64)
    assert f"21 images of 16×16 px, {KEY}: " in capsys.readouterr().err


def test_the_statistics_are_those_of_the_features(make, encoder):
    import torch

    from unirae.app.inputs.features import open_extractor

    features = open_extractor(encoder, device=torch.device("cpu"))(
        torch.from_numpy(pixels(21)).permute(0, 3, 1, 2)
    )
    found, _ = arrays(make(features=True))
    np.testing.assert_array_equal(found[f"{KEY}.features"], features)
    np.testing.assert_allclose(found[f"{KEY}.mu"], features.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(found[f"{KEY}.sigma"], np.cov(features.double().T), rtol=1e-9, atol=1e-15)


def test_the_same_command_writes_the_same_bytes(make):
    """And so does another batch size."""
    first = make("first.npz").read_bytes()
    assert make("second.npz").read_bytes() == first
    assert make("third.npz", batch_size=4, num_workers=1).read_bytes() == first
    assert make("fourth.npz", seed=5).read_bytes() == first  # nothing is drawn
    assert make("fifth.npz", purpose="reconstruction").read_bytes() != first


def test_purpose_split_crop_and_subset_are_recorded(make, data):
    file = make(data=str(data.parent), split="val", size=8, num_samples=9, seed=2, purpose="reconstruction")
    reference = read_reference(file)
    identity = reference.identity
    assert reference.purpose == "reconstruction"
    assert (identity["fingerprint"]["split"], identity["crop"]) == ("val", "AdmCenterCrop")
    assert (identity["size_px"], identity["count"], identity["count_available"]) == ([8, 8], 9, 21)
    assert (identity["subset_seed"], len(reference.hashes)) == (2, 9)


@pytest.mark.parametrize(("given", "size"), [(["12"], [12, 12]), (["8", "12"], [8, 12])])
def test_the_size_on_the_command_line_is_a_square_or_height_and_width(
    data, encoder, tmp_path, monkeypatch, given, size
):
    file = tmp_path / "file.npz"
    words = ["--metrics", "fd", "--encoder", encoder, "--device", "cpu", "--num_threads", "1"]
    command = ["make_reference", "--data", str(data), "--size", *given, "--output", str(file), *words]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    assert read_reference(file).identity["size_px"] == size


def test_nothing_is_put_into_the_cache(make):
    make()
    assert [folder.name for folder in cache_dir().iterdir()] == ["hardware"]


def test_features_of_an_autoencoder(make, tmp_path):
    write_checkpoint(tmp_path / "run")
    found, about = arrays(make(encoder=str(tmp_path / "run")))
    assert found["random_mae/pooled.mu"].shape == (16,)
    assert about["extractors"]["random_mae"]["input_size"] == [32, 32]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"name": "reference.pt"},
            ConfigError,
            r"reference\.pt: the file is an npz; give a name that ends in .npz",
        ),
        ({"name": "reference"}, ConfigError, "the file is an npz"),
        ({"metrics": "rfid", "encoder": None}, ConfigError, "metrics=rfid: give some of fid, sfid"),
        ({"metrics": "psnr", "encoder": None}, ConfigError, "metrics=psnr: give some of fid, sfid"),
        ({"metrics": "fd", "encoder": None}, ConfigError, "--metrics fd and --encoder go together"),
        ({"metrics": "fid"}, ConfigError, "--metrics fd and --encoder go together"),
        (
            {"metrics": "fid", "encoder": None, "inception_weights": "no.pth"},
            WeightsError,
            "--inception_weights",
        ),
        ({"data": "nothing"}, DataError, "nothing: there is nothing of that name"),
        ({"num_samples": 1}, DataError, "at least 2 images"),
        ({"num_samples": 99}, DataError, "has 21 images"),
        ({"split": "train"}, ConfigError, "there is no folder"),
    ],
)
@pytest.mark.usefixtures("names_of_commands")
def test_mistakes(make, tmp_path, options, error, message):
    before = set(tmp_path.iterdir())
    with pytest.raises(error, match=message):
        make(**options)
    assert set(tmp_path.iterdir()) == before


def test_a_score_without_a_reference_needs_no_file(make):
    with pytest.raises(ConfigError, match="has no reference"):
        make(metrics="is", encoder=None, inception_weights="random")


def test_two_processes_write_the_same_statistics(make, data, encoder, tmp_path):
    """Of 21 images the second process has five."""
    words = ["--data", data, "--encoder", encoder, "--metrics", "fd", "--features", "--device", "cpu"]
    words += ["--num_threads", 1, "--output", tmp_path / "two.npz"]
    command_in_processes("make_reference", *words)
    (one, about_one), (two, about_two) = arrays(make(features=True)), arrays(tmp_path / "two.npz")
    assert about_two == about_one
    assert set(two) == set(one)
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-9, atol=1e-15, err_msg=name)
    np.testing.assert_array_equal(two[f"{KEY}.features"], one[f"{KEY}.features"])


def test_main_turns_a_mistake_into_a_line_and_a_status(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["make_reference", "--data", "emoji", "--output", "reference.zip"])
    assert main() == 2
    assert (
        capsys.readouterr().err
        == "error: --output reference.zip: the file is an npz; give a name that ends in .npz\n"
    )
