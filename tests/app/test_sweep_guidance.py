"""The sweep_guidance command: each point once, resumable, refused where it does not belong, a table and a plot."""

import csv
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from processes import command_in_processes, run_in_processes
from tiny_checkpoint import write_checkpoint, write_stage2_checkpoint
from unirae.app import eval_fid
from unirae.app.shell import devices as inference
from unirae.app.sweep.options import Options
from unirae.app.sweep_guidance import main, run
from unirae.core.distributed import rank
from unirae.core.errors import ConfigError, RunInterrupted, WeightsError

SOURCES = Path(__file__).parents[2] / "src"
NAME = "fd_random_mae"
GRID = {"cfg_scale": (1.0, 2.0), "guidance_interval": ("0,1", "0.1,0.9")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_checkpoint(root / "rae")
    write_stage2_checkpoint(root / "dit", root / "rae")
    write_stage2_checkpoint(root / "early", root / "rae", base_head_depth=1)
    return root


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("UNIRAE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def sweep(runs, tmp_path):
    def run_with(**options):
        defaults = {"num_samples": 6, "num_steps": (3,), "batch_size": 3, "metrics": "fd", "num_threads": 1}
        defaults |= {"device": "cpu", "output_dir": tmp_path / "sweep", "checkpoint": runs / "dit", **GRID}
        return run(Options(**{**defaults, **options}))

    return run_with


@pytest.fixture
def sampled(monkeypatch):
    """The points that were really sampled."""
    points, score_samples = [], eval_fid.score_samples

    def counted(generator, *rest, **options):
        points.append(generator.settings["cfg_scale"])
        return score_samples(generator, *rest, **options)

    monkeypatch.setattr(eval_fid, "score_samples", counted)
    return points


def rows(folder):
    return list(csv.DictReader((folder / "table.csv").read_text().splitlines()))


def test_a_grid_gives_a_table_and_a_plot(sweep, sampled, tmp_path, capsys):
    scored = sweep(confidence="bootstrap", resamples=3)
    assert sampled == [1.0, 2.0, 2.0]  # without guidance there is no interval
    folder = tmp_path / "sweep"
    names = sorted(file.name.rsplit("-", 1)[0] for file in (folder / "points").iterdir())
    assert names == ["cfg1-euler3-ema0.999", "cfg2-int0-1-euler3-ema0.999", "cfg2-int0.1-0.9-euler3-ema0.999"]
    found = rows(folder)
    assert [(row["cfg_scale"], row["guidance_interval"]) for row in found] == [
        ("1", "-"),
        ("2", "0-1"),
        ("2", "0.1-0.9"),
    ]
    assert [float(row[NAME]) for row in found] == [s.result.metrics[NAME] for s in scored]
    assert all(float(row[f"{NAME}_standard_error"]) > 0 for row in found)
    assert {row["network_evaluations"] for row in found} == {"2"}
    with Image.open(folder / "plot.png") as plot:
        assert plot.width > 500
    assert (folder / "table.md").read_text().count("**") == 2
    out = capsys.readouterr().out
    assert f"best {NAME}@6: " in out


def test_a_point_is_what_eval_fid_writes(sweep, runs, tmp_path):
    (scored,) = sweep(cfg_scale=(2.0,), guidance_interval=("0.1,0.9",))
    shared = {
        "num_samples": 6,
        "num_steps": 3,
        "batch_size": 3,
        "metrics": "fd",
        "num_threads": 1,
        "device": "cpu",
    }
    sampler = {"cfg_scale": 2.0, "guidance_interval": (0.1, 0.9)}
    eval_fid.run(eval_fid.Options(checkpoint=runs / "dit", output=tmp_path / "one.json", **shared, **sampler))
    assert json.loads((tmp_path / "one.json").read_text()) == json.loads(scored.result.file.read_text())


def test_a_repeated_command_samples_nothing(sweep, sampled, tmp_path):
    first = sweep()
    del sampled[:]
    assert [s.result.metrics for s in sweep()] == [s.result.metrics for s in first]
    assert sampled == []
    (first[0].result.file).unlink()
    grown = sweep(cfg_scale=(1.0, 2.0, 3.0), guidance_interval=("0,1",))
    assert sampled == [1.0, 3.0]
    assert len(grown) == len(rows(tmp_path / "sweep")) == 4


def test_points_without_the_uncertainty_that_is_asked_for_are_scored_again(sweep, sampled, tmp_path):
    """As the remark advises, where the noise is not known."""
    asked = {"cfg_scale": (1.0, 2.0), "guidance_interval": ("0,1",)}
    first = sweep(**asked)
    assert all(s.result.standard_error(NAME) is None for s in first)
    certain = asked | {"confidence": "bootstrap", "resamples": 3}
    del sampled[:]
    half = sweep(**certain | {"cfg_scale": (1.0,)})
    assert sampled == [1.0]
    assert [s.result.standard_error(NAME) is None for s in half] == [False, True]
    again = sweep(**certain)
    assert sampled == [1.0, 2.0]
    assert [s.result.metrics[NAME] for s in again] == pytest.approx([s.result.metrics[NAME] for s in first])
    assert all(s.result.standard_error(NAME) > 0 for s in again)
    sweep(**certain)
    sweep(**asked)  # what is there is more than asked for
    assert sampled == [1.0, 2.0]
    sweep(**certain | {"resamples": 4})
    assert sampled == [1.0, 2.0] * 2


def test_averages_solvers_and_steps(sweep, sampled):
    scored = sweep(
        cfg_scale=(1.0,),
        ema_decay=("main", "0.999", "0.9", "raw"),
        solver=("euler", "heun"),
        num_steps=(3,),
    )
    assert len(scored) == len(sampled) == 6  # main is 0.999
    assert {s.point.weights for s in scored} == {"EMA 0.999", "EMA 0.9", "raw"}
    assert len({s.result.metrics[NAME] for s in scored}) == 6


def test_autoguidance(sweep, runs):
    scored = sweep(guide_checkpoint=runs / "dit", guidance_interval=("0,1",))
    assert [s.result.sampler["guidance"] for s in scored] == ["autoguidance", "autoguidance"]


def test_internal_guidance_beside_guidance_by_label(sweep, sampled, runs, tmp_path, capsys):
    early = {"checkpoint": runs / "early", "guidance_interval": ("0,1",)}
    before = sweep(**early)  # a folder from before there was this axis
    assert sampled == [1.0, 2.0]
    record = (tmp_path / "sweep/sweep.json").read_text()
    assert "ig_scale" not in record
    joint = {"ig_scale": (1.0, 1.5), "ig_interval": ("0.1,1",), "ig_unconditional_scale": None}
    scored = sweep(**early, **joint)
    assert sampled == [1.0, 2.0, 1.0, 2.0]  # those without are there
    assert (tmp_path / "sweep/sweep.json").read_text() == record
    assert {s.result.file for s in before} < {s.result.file for s in scored}
    found = [(row["cfg_scale"], row["ig_scale"], row["ig_interval"]) for row in rows(tmp_path / "sweep")]
    assert found == [("1", "1", "-"), ("1", "1.5", "0.1-1"), ("2", "1", "-"), ("2", "1.5", "0.1-1")]
    assert len({s.result.metrics[NAME] for s in scored}) == 4
    assert {s.result.sampler["seed"] for s in scored} == {0}
    assert [s.result.sampler["guidance"] for s in scored] == [
        "none",
        "internal",
        "classifier-free",
        "internal, then classifier-free",
    ]
    assert "-ig1.5-int0.1-1-" in scored[1].result.file.name
    assert "| cfg | interval | ig | ig interval | solver |" in (tmp_path / "sweep/table.md").read_text()
    sweep(**early, ig_scale=(1.5,), ig_interval=("0.1,1",))
    assert len(sampled) == 4
    assert "ig 1.5 in 0.1-1" in capsys.readouterr().err


def test_internal_guidance_alone_is_what_eval_fid_writes(sweep, runs, tmp_path):
    early = {"checkpoint": runs / "early", "cfg_scale": (2.0,), "guidance_interval": ("0,1",)}
    plain, scored = sweep(**early, ig_scale=(1.0, 1.5), ig_unconditional_scale=0.5)
    assert plain.result.sampler["guidance"] == "classifier-free"  # the branch without label, too
    shared = {"num_samples": 6, "num_steps": 3, "batch_size": 3, "metrics": "fd", "num_threads": 1}
    sampler = {"cfg_scale": 2.0, "ig_scale": 1.5, "ig_unconditional_scale": 0.5, "device": "cpu"}
    one = tmp_path / "one.json"
    eval_fid.run(eval_fid.Options(checkpoint=runs / "early", output=one, **shared, **sampler))
    assert json.loads(one.read_text()) == json.loads(scored.result.file.read_text())


def test_a_sweep_over_internal_guidance_alone_is_drawn_over_it(sweep, runs):
    from unirae.app.sweep.plot import axis_of, label
    from unirae.evaluation.results.guidance_grid import lines

    early = {"checkpoint": runs / "early", "cfg_scale": (1.0,)}
    scored = sweep(**early, ig_scale=(1.0, 1.5), ig_interval=("0,1", "0.1,1"))
    assert axis_of(scored) == "ig_scale"
    keys = list(lines(scored, "ig_scale"))
    assert [label(key, keys) for key in keys] == ["ig interval 0-1", "ig interval 0.1-1"]
    over_label = list(lines(scored, "cfg_scale"))
    assert [label(key, over_label) for key in over_label] == [
        "ig 1",
        "ig 1.5, ig interval 0-1",
        "ig 1.5, ig interval 0.1-1",
    ]


@pytest.mark.parametrize(
    ("checkpoint", "options", "message"),
    [
        ("dit", {}, r"ig_scale=1\.5\) needs a network with an early head, and this one has none"),
        ("early", {"trunk_every": 2}, "trunk_every must be 1"),
        ("early", {"guide_checkpoint": "early"}, "two kinds of autoguidance"),
    ],
)
def test_internal_guidance_that_cannot_work_writes_nothing(
    sweep, sampled, runs, tmp_path, checkpoint, options, message
):
    if "guide_checkpoint" in options:
        options = {"guide_checkpoint": runs / options["guide_checkpoint"]}
    with pytest.raises(ConfigError, match=message):
        sweep(checkpoint=runs / checkpoint, ig_scale=(1.0, 1.5), **options)
    assert sampled == []
    assert not (tmp_path / "sweep").exists()


def test_every_point_keeps_its_trunk_as_asked(sweep, sampled, runs, tmp_path):
    one, kept = {"cfg_scale": (1.0,)}, {"output_dir": tmp_path / "kept", "trunk_every": 2}
    ((exact,), (other,)) = sweep(**one), sweep(**one, **kept)
    assert (exact.result.sampler.get("trunk_every"), other.result.sampler["trunk_every"]) == (None, 2)
    assert exact.result.metrics[NAME] != other.result.metrics[NAME]
    sweep(**one, **kept)
    assert sampled == [1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"trunk_every": 2}, "sampler.trunk_every: None there, 2 now"),
        ({"seed": 1}, "sampler.seed: 0 there, 1 now"),
        ({"num_samples": 7}, "count: 6 there, 7 now"),
        ({"label_sampling": "random"}, "sampler.label_sampling: equal there, random now"),
        ({"split": "val"}, "reference."),
    ],
)
def test_a_folder_of_another_sweep_is_refused(sweep, sampled, options, changed):
    sweep(cfg_scale=(1.0,))
    del sampled[:]
    with pytest.raises(ConfigError, match=f"belongs to another sweep .*{changed}"):
        sweep(**options)
    assert sampled == []


def test_another_checkpoint_is_refused(sweep, runs):
    write_stage2_checkpoint(runs / "other", runs / "rae", seed=3)
    sweep(cfg_scale=(1.0,))
    with pytest.raises(ConfigError, match="checkpoint_sha256"):
        sweep(checkpoint=runs / "other")


def test_a_point_that_was_tampered_with_is_refused(sweep):
    (scored,) = sweep(cfg_scale=(1.0,))
    content = json.loads(scored.result.file.read_text())
    content["settings"]["images"]["sampler"]["num_steps"] = 4
    scored.result.file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="num_steps: 4 there, 3 now"):
        sweep(cfg_scale=(1.0,))


def test_points_without_a_record_are_refused(sweep, tmp_path):
    sweep(cfg_scale=(1.0,))
    (tmp_path / "sweep/sweep.json").unlink()
    with pytest.raises(ConfigError, match=r"holds points but no sweep\.json"):
        sweep(cfg_scale=(1.0,))


def test_an_interrupt_says_how_to_go_on(sweep, sampled, monkeypatch, tmp_path):
    score_samples = eval_fid.score_samples

    def interrupted(generator, *rest, **options):
        if generator.settings["cfg_scale"] > 1:
            raise KeyboardInterrupt
        return score_samples(generator, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(eval_fid, "score_samples", interrupted)
        with pytest.raises(RunInterrupted, match="repeat the command to go on"):
            sweep()
    assert len(rows(tmp_path / "sweep")) == 1
    assert len(sweep()) == 3
    assert sampled == [1.0, 2.0, 2.0]


def test_two_processes_give_the_same_points(sweep, runs, tmp_path):
    expected = sweep(guidance_interval=("0,1",))
    words = ["--checkpoint", runs / "dit", "--device", "cpu", "--num_threads", 1, "--metrics", "fd"]
    words += ["--cfg_scale", 1, 2, "--num_samples", 6, "--num_steps", 3, "--batch_size", 3]
    command_in_processes("sweep_guidance", *words, "--output_dir", tmp_path / "two")
    values = [float(row[NAME]) for row in rows(tmp_path / "two")]
    assert values == pytest.approx([s.result.metrics[NAME] for s in expected], rel=1e-9)


def in_folder_of_its_own(options: dict[str, Any]) -> str | int:
    """As on machines that share no files, each process with a folder of its own."""
    inference.process_group = lambda device: nullcontext()
    torch.set_num_threads(1)
    try:
        return len(run(Options(**options, output_dir=options["checkpoint"].parent / f"folder-{rank()}")))
    except ConfigError as error:
        return str(error)


def test_the_first_process_decides_which_points_are_there(sweep, runs):
    """It has one that the other has not, and the other has a folder of another sweep."""
    shared = {"num_samples": 6, "num_steps": (3,), "batch_size": 3, "metrics": "fd", "num_threads": 1}
    shared |= {"device": "cpu", "checkpoint": runs / "dit", "guidance_interval": ("0,1",)}
    sweep(output_dir=runs / "folder-0", cfg_scale=(1.0,))
    sweep(output_dir=runs / "folder-1", cfg_scale=(2.0,), seed=1)
    results = run_in_processes(in_folder_of_its_own, shared | {"cfg_scale": (1.0, 2.0)})
    assert results == [2, 0]
    assert len(rows(runs / "folder-1")) == 2  # as before
    wrong = shared | {"cfg_scale": (2.0,), "seed": 1}
    refused = run_in_processes(in_folder_of_its_own, wrong)
    assert all("belongs to another sweep" in message for message in refused)


def test_an_average_that_was_given_twice_is_scored_once(sweep, sampled, capsys):
    assert len(sweep(cfg_scale=(1.0,), ema_decay=("main", "0.999"), metrics=" fd")) == len(sampled) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "--ema_decay 0.999 is EMA 0.999, which was given before" in told
    assert "is there" not in told


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"guidance_interval": ("0.1",)}, ConfigError, "--guidance_interval 0.1: each is LOW,HIGH"),
        ({"guidance_interval": ("0.9,0.1",)}, ConfigError, "0 <= LOW <= HIGH <= 1"),
        ({"ig_scale": (-1.0,)}, ConfigError, "--ig_scale -1.0: give numbers from 0 up"),
        ({"ig_scale": ()}, ConfigError, "--ig_scale : give numbers"),
        ({"ig_interval": ("0.9,0.1",)}, ConfigError, "--ig_interval 0.9,0.1: each is LOW,HIGH"),
        ({"ig_interval": ()}, ConfigError, "--ig_interval: give at least one"),
        ({"num_steps": (50, 1)}, ConfigError, "--num_steps 1: give numbers from 2 up"),
        ({"cfg_scale": (float("nan"),)}, ConfigError, "--cfg_scale nan"),
        ({"trunk_every": 2, "solver": ("euler", "dopri5")}, ConfigError, "leave dopri5 out of --solver"),
        ({"ema_decay": ("best",)}, ConfigError, "--ema_decay best: give decays such as"),
        ({"ema_decay": ("0.5",)}, WeightsError, "holds averages of decay 0.999, 0.9"),
        ({"metrics": "rfid"}, ConfigError, "give some of fid"),
        ({"reference_split": "val"}, ConfigError, "--reference_split val chooses"),
        ({"reference": "pictures", "split": "val"}, ConfigError, "--split val chooses"),
    ],
)
def test_mistakes_write_nothing(sweep, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        sweep(**options)
    assert not (tmp_path / "sweep").exists()


def test_a_model_without_labels_takes_no_guidance(sweep, runs):
    write_stage2_checkpoint(runs / "unlabelled", runs / "rae", classes=0)
    with pytest.raises(ConfigError, match="trained without labels; give 1, or a guide"):
        sweep(checkpoint=runs / "unlabelled")


def test_main_turns_a_mistake_into_a_line(monkeypatch, capsys, runs):
    arguments = ["--checkpoint", str(runs / "rae"), "--cfg_scale", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["sweep_guidance", *arguments, "--num_threads", "1"])
    assert main() == 2
    assert "a 'stage2' one is needed" in capsys.readouterr().err
