"""The sample_dit command: the same files whoever makes them, nothing made twice, nothing mixed."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compilers import only_trace, without_compiler
from threads_at_exit import gloo_threads, observing
from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from unirae.app.inputs import generator as generators
from unirae.app.sample_dit import Options, main, run
from unirae.app.shell.devices import fixed_threads
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import file_sha256, load_tensors, save_tensors
from unirae.evaluation.sampling.image_sampler import ImageSampler

SOURCES = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A stage-1 run and two stage-2 runs on it."""
    root = tmp_path_factory.mktemp("runs")
    write_checkpoint(root / "rae")
    write_stage2_checkpoint(root / "dit", root / "rae")
    write_stage2_checkpoint(root / "weak", root / "rae", seed=5, step=3)
    write_stage2_checkpoint(root / "plain", root / "rae", classes=0)
    return root


@pytest.fixture
def sample(runs, tmp_path):
    """Sample into a folder of this name; returns it."""

    def run_into(name="samples", *, model="dit", **options):
        defaults = {"num_samples": 12, "num_steps": 4, "batch_size": 5, "device": "cpu", "num_threads": 1}
        return run(Options(checkpoint=runs / model, output_dir=tmp_path / name, **{**defaults, **options}))

    return run_into


def hashes(folder):
    return {file.name: file_sha256(file) for file in sorted(folder.glob("[0-9]*.png"))}


def picture(file):
    with Image.open(file) as image:
        return np.array(image).astype(int)


def pixels(folder):
    return np.stack([picture(file) for file in sorted(folder.glob("[0-9]*.png"))])


def labels(folder):
    return list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))


def record(folder):
    return json.loads((folder / "settings.json").read_text())


def test_images_overview_labels_and_settings(sample, runs):
    folder = sample(cfg_scale=2.0)
    assert list(hashes(folder)) == [f"{i:06d}.png" for i in range(12)]
    images = pixels(folder)
    assert images.shape == (12, 32, 32, 3)
    assert images.std() > 5
    assert picture(folder / "grid.png").shape == (3 * 34 + 2, 4 * 34 + 2, 3)
    rows = labels(folder)
    assert [row["label"] for row in rows[:4]] == ["0", "1", "0", "1"]
    assert (rows[1]["file"], rows[1]["name"]) == ("000001.png", "shape 1")
    content = record(folder)
    settings = content["settings"]
    assert content["label_counts"] == {"0": 6, "1": 6}
    assert content["network_evaluations"] == [3]
    assert settings["checkpoint_sha256"] == file_sha256(runs / "dit/checkpoints/last.ckpt")
    assert settings["trained_with"] == {"version": "0", "commit": None, "step": 9}
    assert settings["weights"] == "EMA 0.999"
    assert (settings["label_sampling"], settings["guidance"]) == ("equal", "classifier-free")
    assert len(settings["times"]) == 4
    assert settings["times"][0] == 1.0
    assert (settings["num_steps"], settings["solver"], settings["time_grid"]) == (4, "euler", "reference")
    assert settings["trained_time_shift"] == 1.0
    assert "trunk_every" not in settings  # so that folders from before there was a choice go on
    assert content["made_with"]["versions"]["torch"] == torch.__version__


def test_everything_that_should_matter_does(sample):
    plain = hashes(sample("plain"))
    for name, options in {
        "seed": {"seed": 1},
        "guided": {"cfg_scale": 3.0},
        "interval": {"cfg_scale": 3.0, "guidance_interval": (0.0, 0.9)},
        "raw": {"use_ema": False},
        "other average": {"ema_decay": 0.9},
        "heun": {"solver": "heun"},
        "multistep": {"solver": "multistep"},
        "sde": {"solver": "sde"},
        "to zero": {"time_grid": "to_zero"},
        "log odds": {"time_grid": "log_odds"},
        "kept trunk": {"trunk_every": 2},
        "shift": {"time_shift": 3.0},
        "random labels": {"label_sampling": "random"},
    }.items():
        assert hashes(sample(name, **options)) != plain, name
    assert hashes(sample("again")) == plain


def test_another_batch_size_changes_no_pixel_by_more_than_one_level(sample):
    five, twelve = (pixels(sample(f"by {size}", batch_size=size, cfg_scale=2.0)) for size in (5, 12))
    assert np.abs(five - twelve).max() <= 1


@pytest.mark.parametrize("solver", ["euler", "dopri5", "sde"])
def test_more_images_leave_the_first_ones_as_they_are(sample, solver):
    few = hashes(sample("few", num_samples=7, solver=solver))
    many = hashes(sample("many", num_samples=12, solver=solver))
    assert few == {name: many[name] for name in few}


def test_two_processes_write_the_same_bytes(sample, runs, tmp_path):
    """Torchrun gives each process one thread; a single one has all cores."""
    one = sample("one", num_samples=23, num_steps=3, cfg_scale=2.0, num_threads=None, npz=True)
    two, threads = tmp_path / "two", tmp_path / "threads"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {
        "PYTHONPATH": observing(threads, SOURCES)
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [SOURCES / "sample_dit.py", "--checkpoint", runs / "dit", "--device", "cpu", "--npz"]
    command += ["--num_samples", "23", "--num_steps", "3", "--batch_size", "5", "--cfg_scale", "2.0"]
    command += ["--output_dir", two]
    finished = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert len(hashes(two)) == 23
    assert sorted(file.name for file in one.iterdir()) == sorted(file.name for file in two.iterdir())
    for file in one.iterdir():
        assert (two / file.name).read_bytes() == file.read_bytes(), file.name
    assert record(two)["made_with"]["cpu_threads"] == len(os.sched_getaffinity(0))
    assert np.load(two / "samples.npz")["arr_0"].shape == (23, 32, 32, 3)
    assert gloo_threads(threads, processes=2) == set()


def test_the_number_of_threads_is_one_for_each_core_and_given_back():
    before = torch.get_num_threads()
    with fixed_threads(torch.device("cpu"), None):
        assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    with fixed_threads(torch.device("cpu"), 1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(ConfigError, match="--num_threads 0"), fixed_threads(torch.device("cpu"), 0):
        pass


def test_continuing_makes_nothing_twice(sample, monkeypatch):
    folder = sample("grown", num_samples=7)
    times = {file.name: file.stat().st_mtime_ns for file in folder.glob("[0-9]*.png")}
    (folder / "000002.png").unlink()
    made = []
    batch = ImageSampler._batch
    monkeypatch.setattr(ImageSampler, "_batch", lambda self, i: made.append(i.tolist()) or batch(self, i))
    sample("grown", num_samples=17)
    assert made == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [15, 16]]
    for name in times.keys() - {"000002.png"}:
        assert (folder / name).stat().st_mtime_ns == times[name]
    made.clear()
    sample("grown", num_samples=17)
    assert made == []
    assert hashes(folder) == hashes(sample("at once", num_samples=17))
    assert record(folder) == record(sample("at once", num_samples=17))


def test_a_kept_trunk_is_recorded_and_can_be_continued(sample):
    folder = sample("kept", num_samples=5, trunk_every=2)
    assert record(folder)["settings"]["trunk_every"] == 2
    first = hashes(folder)
    assert first.items() < hashes(sample("kept", num_samples=8, trunk_every=2)).items()
    with pytest.raises(ConfigError, match="trunk_every: 2 there, None now"):
        sample("kept", num_samples=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trunk_every": 2}, "trunk_every: None there, 2 now"),
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"cfg_scale": 2.0, "num_steps": 9}, "num_steps: 4 there, 9 now"),
        ({"model": "weak"}, "trained_with.step: 9 there, 3 now"),
        ({"batch_size": 6}, "batch_size: 5 there, 6 now"),
        ({"num_samples": 5}, "can grow but not shrink to 5"),
    ],
)
def test_a_folder_of_other_settings_is_refused(sample, options, message):
    folder = sample(num_samples=6)
    before = hashes(folder), record(folder)
    with pytest.raises(ConfigError, match=message):
        sample(**{"num_samples": 6, **options})
    assert (hashes(folder), record(folder)) == before


def test_numbered_images_of_unknown_settings_are_refused(sample, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/000000.png").touch()
    with pytest.raises(ConfigError, match=r"no settings\.json"):
        sample("other")


def test_labels_by_number_and_name(sample):
    folder = sample(num_samples=None, labels="1, Shape 0,2")
    assert record(folder)["settings"]["labels"] == [1, 0, 2]
    assert [row["name"] for row in labels(folder)] == [
        "shape 1",
        "shape 0",
        "",
    ]
    cycled = sample("cycled", labels="1", num_samples=7)
    assert record(cycled)["label_counts"] == {"1": 7}
    balanced = sample("balanced", num_samples=4)
    assert hashes(balanced)["000001.png"] == hashes(cycled)["000001.png"]


def test_the_default_number_of_images_fills_the_overview(sample):
    assert len(hashes(sample(num_samples=None, num_steps=2, batch_size=32))) == 64


def test_a_model_without_labels(sample):
    folder = sample(model="plain")
    content = record(folder)
    assert content["settings"]["label_sampling"] == "none"
    assert content["label_counts"] == {"0": 12}
    with pytest.raises(ConfigError, match="trained without labels"):
        sample("labels", model="plain", labels="1")
    with pytest.raises(ConfigError, match="needs a model with labels"):
        sample("guided", model="plain", cfg_scale=2.0)


def test_a_guide_replaces_the_missing_label(sample, runs):
    plain, guided = sample("plain"), sample("guided", guide_checkpoint=runs / "weak", cfg_scale=1.5)
    assert hashes(plain) != hashes(guided)
    settings = record(guided)["settings"]
    assert settings["guidance"] == "autoguidance"
    assert settings["guide"]["trained_with"]["step"] == 3
    with pytest.raises(ConfigError, match="a guide must be trained on the same"):
        sample("misfit", guide_checkpoint=runs / "plain", cfg_scale=1.5)


@pytest.mark.parametrize("names", [["shape 1", "shape 0"], ["cat", "dog"]])
def test_a_guide_of_other_classes_is_refused(sample, runs, tmp_path, names):
    content = load_tensors(runs / "weak/checkpoints/last.ckpt")
    content["unirae"]["class_names"] = names
    save_tensors(tmp_path / "guide.ckpt", content)
    with pytest.raises(
        WeightsError,
        match=rf"^the guide .*guide\.ckpt was trained with other classes than the model: {', '.join(names)} there, "
        r"shape 0, shape 1 here .*a guide must be trained on the same labels$",
    ):
        sample("misfit", guide_checkpoint=tmp_path / "guide.ckpt", cfg_scale=1.5)
    assert not (tmp_path / "misfit").exists()


def test_adms_npz(sample):
    folder = sample(npz=True)
    with np.load(folder / "samples.npz") as content:
        assert content.files == ["arr_0"]
        images = content["arr_0"]
    assert (images.dtype, images.shape) == (np.uint8, (12, 32, 32, 3))
    assert np.array_equal(images, pixels(folder))


def test_16_bits_are_close(sample):
    exact, rough = pixels(sample("fp32")), pixels(sample("bf16", precision="bf16"))
    assert 0 < np.abs(exact - rough).mean() < 4


@pytest.mark.usefixtures("names_of_commands")
def test_the_autoencoder_may_have_moved(sample, runs, tmp_path):
    write_stage2_checkpoint(tmp_path / "far" / "dit", runs / "rae")
    (tmp_path / "far" / "dit").rename(tmp_path / "dit")
    with pytest.raises(WeightsError, match="--rae PATH"):
        run(Options(checkpoint=tmp_path / "dit", output_dir=tmp_path / "out", device="cpu"))
    folder = sample("moved", num_samples=3)
    options = {
        "num_samples": 3,
        "num_steps": 4,
        "batch_size": 5,
        "device": "cpu",
        "num_threads": 1,
        "rae": runs / "rae",
    }
    moved = run(Options(checkpoint=tmp_path / "dit", output_dir=tmp_path / "out", **options))
    assert hashes(moved) == hashes(folder)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "rae"}, WeightsError, "a 'stage2' one is needed"),
        ({"labels": "3"}, ConfigError, "a number from 0 to 1"),
        ({"labels": "shap"}, ConfigError, "or a name: shape 0, shape 1"),
        ({"num_samples": 0}, ConfigError, "--num_samples 0"),
        ({"batch_size": 0}, ConfigError, "batch_size=0"),
        ({"num_steps": 1}, ConfigError, "at least 2"),
        ({"cfg_scale": 2.0, "guidance_interval": (0.9, 0.1)}, ConfigError, "interval"),
        ({"ema_decay": 0.5}, WeightsError, "averages of decay 0.999, 0.9"),
        ({"ema_decay": 0.9, "use_ema": False}, ConfigError, "--use_ema false takes none"),
        ({"device": "abacus"}, ConfigError, "abacus"),
        ({"trunk_every": 0}, ConfigError, "trunk_every=0 must be at least 1"),
        ({"trunk_every": 2, "solver": "dopri5"}, ConfigError, "for fixed steps"),
    ],
)
def test_mistakes(sample, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        sample(**options)
    assert not (tmp_path / "samples").exists()


def test_the_command_line(monkeypatch, capsys, runs, tmp_path):
    arguments = [
        "--checkpoint",
        str(runs / "dit"),
        "--num_samples",
        "2",
        "--num_steps",
        "3",
        "--npz",
        "--device",
    ]
    arguments += ["cpu", "--guidance_interval", "0.1", "0.9", "--cfg_scale", "2", "--labels", "1,shape 0"]
    monkeypatch.setattr(sys, "argv", ["sample_dit", *arguments, "--output_dir", str(tmp_path / "out")])
    assert main() == 0
    assert record(tmp_path / "out")["settings"]["guidance_interval"] == [0.1, 0.9]
    assert (tmp_path / "out/samples.npz").is_file()
    monkeypatch.setattr(
        sys, "argv", ["sample_dit", "--checkpoint", str(tmp_path / "no.ckpt"), "--npz", "false"]
    )
    assert main() == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: no checkpoint at")


# --------------------------------------------------------------- --compile


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    only_trace(monkeypatch)


@pytest.mark.usefixtures("traced")
def test_compiled_blocks_make_the_same_images(sample):
    usual, compiled = sample("usual", cfg_scale=2.0), sample("compiled", cfg_scale=2.0, compile="true")
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs > 0
    assert np.abs(pixels(usual) - pixels(compiled)).max() <= 1
    assert [record(folder)["made_with"]["compiled"] for folder in (usual, compiled)] == [False, True]
    assert sample("compiled", cfg_scale=2.0, num_samples=14) == compiled  # which is no setting of the images


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    return without_compiler(monkeypatch, "unirae.core.hardware.compiler_problem")


def test_only_long_work_waits_for_the_compiler(sample, asked, monkeypatch, capsys):
    sample("short")
    assert asked == []
    monkeypatch.setattr(generators, "_WORTH_COMPILING", 12)  # three batches of four points
    assert record(sample("long"))["made_with"]["compiled"] is False
    assert asked == [torch.device("cpu")]
    assert "no C++ compiler" in capsys.readouterr().err
    sample("as it is", compile="false")
    assert len(asked) == 1


def test_a_compiler_that_was_asked_for_and_is_missing_is_named(sample, asked, tmp_path):
    with pytest.raises(ConfigError, match=r"--compile true.*no C\+\+ compiler"):
        sample(compile="true")
    assert not (tmp_path / "samples").exists()
