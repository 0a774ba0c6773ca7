"""The compare_run command: table, picture, verdict, exit status; settings that differ; mistakes are one line."""

import csv
import json
import re
import sys

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from synthetic_curves import healthy_curves, rows_of
from unirae.app.compare_run import Options, main, run
from unirae.app.config.composition import compose
from unirae.app.run.deciding import deciding_settings, differing_settings
from unirae.core.errors import UserError
from unirae.evaluation.health.curve_files import known_curves, read_curves, write_curves

CONFIG = {
    "data": {"global_batch_size": 32},
    "model": {"optimizer": {"lr": 0.001}},
    "trainer": {"max_steps": 1000, "precision": "auto"},
}


def write_run(folder, rows, config=CONFIG, experiment="mine"):
    (folder / "csv").mkdir(parents=True)
    with open(folder / "csv/metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if config:
        OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    (folder / "experiment").write_text(f"{experiment}\n")
    return folder


@pytest.fixture
def curves(tmp_path):
    """A file of curves."""
    origins = [{"seed": seed} for seed in range(3)]
    return str(write_curves(tmp_path / "curves.json", healthy_curves(), origins=origins, machine="here"))


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["compare_run", *map(str, arguments)])
    return main()


def test_a_healthy_run(tmp_path, curves, capsys, monkeypatch):
    folder = write_run(tmp_path / "run", rows_of(10))
    assert command(monkeypatch, "--run", folder, "--reference", curves) == 0
    out = capsys.readouterr().out
    assert "INSIDE the band of synthetic in all 3 columns" in out
    assert re.search(r"train/loss +1000 +0\.\d+ +0\.\d+ to 0\.\d+ +inside", out)
    with Image.open(folder / "compare.png") as picture:
        assert min(picture.size) > 300


def test_a_run_that_left(tmp_path, curves, capsys, monkeypatch):
    rows = rows_of(10)[:40] + rows_of(10, factor=2.0)[40:]
    folder, output = write_run(tmp_path / "run", rows), tmp_path / "pictures/a.png"
    assert command(monkeypatch, "--run", folder, "--reference", curves, "--output", output) == 1
    out = capsys.readouterr().out
    assert re.search(r"train/loss .* outside, since 430", out)
    assert "LEFT the band of synthetic in 1 of 3 columns" in out
    assert "  train/loss: a learning rate that is too high" in out
    assert output.is_file()


def test_a_run_that_came_back(tmp_path, curves, capsys, monkeypatch):
    rows = rows_of(10)
    rows[40:50] = rows_of(10, factor=2.0)[40:50]
    folder = write_run(tmp_path / "run", rows)
    assert command(monkeypatch, "--run", folder, "--reference", curves) == 1
    assert re.search(r"train/loss .* inside, not at 430", capsys.readouterr().out)


def test_settings_that_differ_are_named_instead_of_a_verdict(tmp_path, curves, capsys, monkeypatch):
    config = {**CONFIG, "data": {"global_batch_size": 64}, "trainer": {"max_steps": 2000}}
    folder = write_run(tmp_path / "run", rows_of(10, factor=2.0), config)
    assert command(monkeypatch, "--run", folder, "--reference", curves) == 3
    out = capsys.readouterr().out
    assert "NO VERDICT" in out
    assert "data.global_batch_size=64 (reference: 32)" in out
    assert "trainer.max_steps=2000 (reference: 1000)" in out
    assert "LEFT" not in out
    assert (folder / "compare.png").is_file()


def test_another_run_is_a_reference(tmp_path, capsys, monkeypatch):
    mine, other = write_run(tmp_path / "mine", rows_of(10)), write_run(tmp_path / "other", rows_of(11))
    assert command(monkeypatch, "--run", mine, "--reference", other) == 0
    assert "the reference is one run" in capsys.readouterr().out
    twice = write_run(tmp_path / "twice", rows_of(10, factor=2.0))
    assert command(monkeypatch, "--run", twice, "--reference", other / "csv/metrics.csv") == 1


def test_a_bare_file_is_compared_with_a_caution(tmp_path, curves, capsys, monkeypatch):
    write_run(tmp_path / "run", rows_of(10), config=None)
    assert command(monkeypatch, "--run", tmp_path / "run/csv/metrics.csv", "--reference", curves) == 0
    assert "whether the settings agree was not checked" in capsys.readouterr().out


def test_what_was_not_compared_is_said(tmp_path, curves, capsys, monkeypatch):
    rows = [{**row, "train/gan": ""} for row in rows_of(10)]
    config = {**CONFIG, "model": {"clip_grad": 1.0}}
    folder = write_run(tmp_path / "run", rows, config)
    assert command(monkeypatch, "--run", folder, "--reference", curves) == 0
    out = capsys.readouterr().out
    assert "not compared, because the run has not logged them (enough): train/gan" in out
    assert "2 settings are known of one side only and were not compared: model.clip_grad, model.optimi" in out


def test_the_experiment_of_a_run_is_its_reference(tmp_path, monkeypatch, capsys):
    """A seed of the curves themselves, as the run that it was."""
    columns = read_curves("mae_tiny").runs[1]
    rows = [
        {"step": step, **{name: points[i][1] for name, points in columns.items()}}
        for i, (step, _) in enumerate(columns["train/loss"])
    ]
    folder = write_run(tmp_path / "run", rows, compose(["experiment=mae_tiny"]), experiment="mae_tiny")
    assert command(monkeypatch, "--run", folder) == 0
    assert "INSIDE the band of mae_tiny in all 4 columns" in capsys.readouterr().out


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, r"no .*metrics\.csv: give the folder of a run"),
        ("", "has no column `step`"),
        ("epoch,loss\n1,2\n", "has no column `step`"),
        ("step,train/loss\n", "has no rows yet"),
        ("step,train/loss\n10,fast\n", "'fast' in the column train/loss, which is not a number"),
        ("step,train/loss\nten,1\n", "'ten' in the column step, which is not a number"),
        (
            "step,train/loss\n10,1\n20,1\n",
            "has 2 rows, to step 20: too few to judge. .* from step 100 to 1000",
        ),
        ("step,train/other\n10,1\n20,1\n", "no column in common"),
        (b"\x89PNG\r\n\x1a\n\xff", "is not a text file"),
    ],
)
def test_a_file_that_is_no_run(tmp_path, curves, capsys, monkeypatch, content, cause):
    (tmp_path / "run/csv").mkdir(parents=True)
    if content is not None:
        raw = content.encode() if isinstance(content, str) else content
        (tmp_path / "run/csv/metrics.csv").write_bytes(raw)
    assert command(monkeypatch, "--run", tmp_path / "run", "--reference", curves) == 2
    error = capsys.readouterr().err
    assert re.match(f"error: .*{cause}", error)
    assert error.count("\n") == 1


def test_references_that_are_none(tmp_path):
    folder = write_run(tmp_path / "run", rows_of(10))
    known = ".*".join(known_curves())
    with pytest.raises(UserError, match=f"a run of mine, whose curves do not come with the package.*{known}"):
        run(Options(run=folder))
    with pytest.raises(UserError, match=f"--reference mae_tony: neither .* known are .*{known}"):
        run(Options(run=folder, reference="mae_tony"))
    short = write_run(tmp_path / "short", rows_of(10)[:3])
    with pytest.raises(UserError, match="short has too few rows to make a band of"):
        run(Options(run=folder, reference=str(short)))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("name", known_curves())
def test_the_curves_are_those_of_todays_experiment(name, tmp_path, monkeypatch):
    """When this fails, an experiment has changed: train it anew and run tools/health_curves.py."""
    monkeypatch.chdir(tmp_path)  # where no encoder or autoencoder lies that an older version may have trained
    theirs = read_curves(name).settings
    mine = deciding_settings(compose([f"experiment={name}"]))
    assert differing_settings(mine, theirs) == []
    unknown = {key for key in theirs.keys() - mine.keys() if ":" not in key and not key.endswith(".weights")}
    assert unknown == set()


@pytest.mark.parametrize(
    "override",
    [
        "trainer.precision=32-true",
        "trainer.log_every_n_steps=1",
        "trainer.devices=2",
        "trainer.accumulate_grad_batches=2",
        "data.num_workers=0",
        "paths.output_dir=DIR",
        "seed=5",
        "callbacks.model_checkpoint.every_n_train_steps=7",
    ],
)
def test_what_does_not_change_curves(override):
    assert deciding_settings(compose(["experiment=mae_tiny", override])) == deciding_settings(
        compose(["experiment=mae_tiny"])
    )


@pytest.mark.parametrize(
    "override",
    [
        "trainer.max_steps=500",
        "data.global_batch_size=32",
        "model.optimizer.lr=0.1",
        "data=synthetic",
        "model.architecture.patch_size=8",
    ],
)
def test_what_changes_curves(override):
    theirs = deciding_settings(compose(["experiment=mae_tiny"]))
    assert differing_settings(deciding_settings(compose(["experiment=mae_tiny", override])), theirs)


@pytest.mark.parametrize("of", ["", "model.rae.pretrained_decoder_path:"])
def test_a_part_that_neither_uses_is_no_difference(of):
    def settings(weight, lr):
        own = {"model.disc_weight": weight, "model.disc_optimizer.lr": lr, "trainer.max_steps": 100 * lr}
        return {of + key: value for key, value in own.items()}

    def differing(mine, theirs):
        return [
            line.partition("=")[0].removeprefix(of)
            for line in differing_settings(settings(*mine), settings(*theirs))
        ]

    assert differing((0, 1), (0.0, 2)) == ["trainer.max_steps"]
    assert differing((0.5, 1), (0.5, 2)) == ["model.disc_optimizer.lr", "trainer.max_steps"]
    assert differing((0, 1), (0.5, 2)) == [
        "model.disc_weight",
        "model.disc_optimizer.lr",
        "trainer.max_steps",
    ]


def test_the_demos_decoder_has_no_discriminator_to_name():
    longer = compose(["experiment=rae_demo", "trainer.max_steps=1400"])
    found = differing_settings(deciding_settings(longer), deciding_settings(compose(["experiment=rae_demo"])))
    assert {line.partition("=")[0] for line in found} == {
        "trainer.max_steps",
        "model.scheduler.decay_end_steps",
    }


def test_an_encoder_is_what_it_says_of_itself(tmp_path):
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    told = {"unirae": "0.1.0", "trained_by": "MAE pretraining", "data": "emoji", "steps": 1000, "seed": 4}
    (encoder / "unirae.json").write_text(json.dumps(told))

    def settings(weights):
        return deciding_settings(compose(["experiment=rae_tiny", f"model.encoder.weights={weights}"]))

    assert settings(encoder)["model.encoder.weights"] == "trained_by MAE pretraining, data emoji, steps 1000"
    assert settings("random")["model.encoder.weights"] == "random"
    assert settings(tmp_path)["model.encoder.weights"] == str(tmp_path)
    assert "model.encoder.weights" not in settings(tmp_path / "gone")


def test_an_autoencoder_is_the_settings_it_was_trained_with(tmp_path):
    trained = compose(["experiment=rae_tiny", "trainer.max_steps=5", "model.encoder.weights=random"])
    torch.save({"unirae": {"kind": "stage1", "config": trained}}, tmp_path / "rae.ckpt")

    def settings(path):
        return deciding_settings(
            compose(["experiment=dit_tiny", f"model.rae.pretrained_decoder_path={path}"])
        )

    found = settings(tmp_path / "rae.ckpt")
    assert found["model.rae.pretrained_decoder_path:trainer.max_steps"] == 5
    assert found["model.rae.pretrained_decoder_path:model.encoder.weights"] == "random"
    assert not any(":" in key for key in settings(tmp_path / "gone"))


def test_epochs_to_a_score_of_two_runs(tmp_path, capsys, monkeypatch):
    for name, values in (("a", (3.0, 1.0)), ("b", (5.0, 4.0))):
        (tmp_path / name / "eval").mkdir(parents=True)
        for number, value in enumerate(values, start=1):
            images = {
                "kind": "generation",
                "step": number,
                "epoch": 10.0 * number,
                "sampler": {"guidance": "none"},
            }
            settings = {"images": images, "metrics": {}, "reference": {}}
            content = {"metrics": {"fid": value}, "count": 9, "settings": settings}
            (tmp_path / name / f"eval/step-{number:07d}.json").write_text(json.dumps(content))
    words = ["--run", str(tmp_path / "a"), "--reference", str(tmp_path / "b"), "--epochs_to", "fid=2"]
    monkeypatch.setattr(sys, "argv", ["compare_run.py", *words])
    assert main() == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'a'}: fid 2 reached after 15 epochs",
        f"{tmp_path / 'b'}: fid 2 not reached by epoch 20; best 4",
    ]
    monkeypatch.setattr(sys, "argv", ["compare_run.py", *words[:-1], "fid"])
    assert main() == 2
    assert "error: --epochs_to fid: give SCORE=VALUE, such as fid=2" in capsys.readouterr().err
