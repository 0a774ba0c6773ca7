"""Commands: quick help, exit statuses, and one line for each mistake."""

import errno
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tiny_training import TINY, tiny_config
from unirae.app import main, train
from unirae.app.run.assembly import assemble
from unirae.app.run.run_dir import newest_run, resolve_resume
from unirae.app.shell import cli, devices
from unirae.core.errors import ConfigError, RunInterrupted, UserError, WeightsError
from unirae.training.csv_logger import read_metrics

SRC = Path(__file__).parents[3] / "src"
SCRIPTS = sorted(path.name for path in SRC.glob("*.py"))
COMMANDS = [
    *([name] for name in SCRIPTS),
    *(["-m", "unirae", *command] for command in ([], ["demo"], ["train"])),
]
HEAVY = ["torch", "lightning", "transformers", "datasets", "numpy"]


@pytest.fixture(autouse=True)
def _logging_stays():
    """Commands configure the root logger for their process; tests share one."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_help_comes_before_heavy_imports(command, tmp_path):
    probe = (
        "import json, runpy, sys\n"
        "target, *rest = json.loads(sys.argv[1])\n"
        "module = rest.pop(0) if target == '-m' else None\n"
        "sys.argv = [target, *rest, '--help']\n"
        "try:\n"
        "    if module: runpy.run_module(module, run_name='__main__', alter_sys=True)\n"
        f"    else: runpy.run_path({str(SRC)!r} + '/' + target, run_name='__main__')\n"
        "except SystemExit as end: status = end.code or 0\n"
        f"print(json.dumps([status, sorted(set({HEAVY!r}) & set(sys.modules))]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, json.dumps(command)], cwd=tmp_path, capture_output=True, text=True
    )
    status, imported = json.loads(done.stderr.strip().splitlines()[-1])
    assert (status, imported) == (0, [])
    assert len(done.stdout.splitlines()) >= 5
    assert list(tmp_path.iterdir()) == []


def test_help_of_the_program_lists_its_commands(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["unirae", "--help"])
    assert main.main() == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in main.COMMANDS)


def test_each_script_is_a_command():
    commands = {command.replace("-", "_") for command in main.COMMANDS}
    assert {name.removesuffix(".py") for name in SCRIPTS} <= commands


def test_an_unknown_command_names_the_known_ones(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["unirae", "trane"])
    assert main.main() == 2
    assert "unknown command 'trane'; choose one of demo, train" in capsys.readouterr().err


def test_a_command_may_be_spelt_as_its_script(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["unirae", "sample_dit", "--help"])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 0
    assert "unirae sample-dit" in capsys.readouterr().out


@pytest.mark.parametrize("command", [name for name in main.COMMANDS if name != "train"])
def test_every_option_has_a_text_in_one_piece(monkeypatch, capsys, command):
    def told(width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "argv", ["unirae", command, "--help"])
        with pytest.raises(SystemExit):
            main.main()
        return capsys.readouterr().out

    wide = told(600)
    assert not [left for left in ("default: None", "(default: )", "{None", "None}") if left in wide]
    _, _, options = wide.rpartition("show this help message and exit")
    box = [line.strip() for line in options.strip("\n").splitlines() if line.strip()]
    kind = r"[\[{A-Z][\w\[\]{},.|]*"
    flag = re.compile(rf"--\w+( ({kind}|\.\.\.\]+))*(  |$)")  # its text beside it, or on a line of its own
    texts = [line for line in box if not flag.match(line)]
    alone = [line for line in box if flag.fullmatch(line)]
    assert box
    assert len(texts) == len(alone), "a text is broken by hand, or missing"
    assert all(len(text) > 10 for text in texts)
    assert all(len(line) <= 80 for line in told(80).splitlines()[1:] if not line.startswith("usage"))


def test_options_of_the_command_come_before_shared_ones(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "argv", ["unirae", "evaluate", "--help"])
    with pytest.raises(SystemExit):
        main.main()
    flags = re.findall(r"^[│ ]+(--\w+)", capsys.readouterr().out, flags=re.M)
    places = [
        flags.index(f"--{name}")
        for name in ("images", "reference", "metrics", "is_order", "cfg_scale", "device")
    ]
    assert places == sorted(places)


def test_help_of_train_has_the_name_that_was_typed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["unirae", "train", "--help"])
    assert main.main() == 0
    assert capsys.readouterr().out.startswith("usage: unirae train experiment=NAME")


def test_without_a_terminal_work_is_told_in_lines(monkeypatch, caplog, capsys):
    times = iter([0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr(devices.time, "perf_counter", lambda: next(times))
    with (
        caplog.at_level("INFO", logger="unirae"),
        devices.progress_bar("sampling", rate="images/s") as progress,
    ):
        for done in (1, 4, 5):
            progress(done, 5)
    assert [record.message for record in caplog.records] == [
        "sampling: 4 of 5, 0.1 images/s",
        "sampling: 5 of 5, 0.1 images/s",
    ]
    assert capsys.readouterr().err == ""


def test_who_reads_the_help_may_leave():
    command = [sys.executable, "-m", "unirae.app.main", "sample-dit", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reading:
        reading.stdout.close()
        _, errors = reading.communicate()
    assert (reading.returncode, errors) == (0, "")


# ---------------------------------------------------------------- exit statuses


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (None, 0, ""),
        (UserError("cause. remedy"), 2, "error: cause. remedy\n"),
        (WeightsError("cause"), 2, "error: cause\n"),
        (RunInterrupted("saved there"), 130, "saved there\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (BrokenPipeError(), 1, ""),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, "error: a/b: Permission denied\n"),
        (OSError(errno.ELOOP, "Too many levels", b"a"), 2, "error: a: Too many levels\n"),
    ],
)
def test_exit_statuses(capsys, error, status, line):
    def command():
        if error:
            raise error

    assert cli.run(command) == status
    assert capsys.readouterr().err == line


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 / 0)


# ---------------------------------------------------------------- ckpt_path


def a_run(runs: Path, name: str, experiment: str = "rae_tiny", *, checkpoint: bool = True) -> Path:
    run = runs / name
    (run / "checkpoints").mkdir(parents=True)
    (run / "experiment").write_text(f"{experiment}\n")
    if checkpoint:
        (run / "checkpoints" / "last.ckpt").touch()
    return run


def test_last_without_a_folder_is_the_newest_run_of_the_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = Path("logs/train/runs")
    a_run(runs, "2026-01-01_00-00-00")
    wanted = a_run(runs, "2026-01-02_00-00-00")
    a_run(runs, "2026-01-03_00-00-00", "mae_tiny")
    a_run(runs, "2026-01-04_00-00-00", checkpoint=False)
    (runs / "2026-01-05_00-00-00").mkdir()
    found = resolve_resume("last", output_dir=Path("new"), output_dir_given=False, experiment="rae_tiny")
    assert found == (wanted / "checkpoints/last.ckpt", wanted)
    with pytest.raises(ConfigError, match="no run of experiment=rae_dino with a checkpoint"):
        newest_run("rae_dino")


def test_last_of_a_given_folder_is_that_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a_run(Path("logs/train/runs"), "2026-01-01_00-00-00")
    given = a_run(tmp_path, "given")
    found = resolve_resume("last", output_dir=given, output_dir_given=True, experiment="rae_tiny")
    assert found == (given / "checkpoints/last.ckpt", given)
    with pytest.raises(ConfigError, match=r"there is no empty/checkpoints/last\.ckpt"):
        resolve_resume("last", output_dir=Path("empty"), output_dir_given=True, experiment="rae_tiny")


def test_a_new_run_does_not_write_over_another(tmp_path):
    folder = a_run(tmp_path, "old")
    elsewhere = a_run(tmp_path, "elsewhere") / "checkpoints" / "last.ckpt"
    for start in (None, str(elsewhere)):
        with pytest.raises(ConfigError, match=r"old holds a run: go on with it by ckpt_path=last"):
            resolve_resume(start, output_dir=folder, output_dir_given=True, experiment="rae_tiny")
    own = folder / "checkpoints" / "step.ckpt"
    own.touch()
    found = resolve_resume(str(own), output_dir=folder, output_dir_given=True, experiment="rae_tiny")
    assert found == (own, folder)


def test_a_file_is_continued_in_the_runs_own_folder(tmp_path):
    file = a_run(tmp_path, "old") / "checkpoints" / "last.ckpt"
    out = tmp_path / "new"
    assert resolve_resume(str(file), output_dir=out, output_dir_given=False, experiment="x") == (file, out)
    assert resolve_resume(None, output_dir=out, output_dir_given=False, experiment="x") == (None, out)
    with pytest.raises(ConfigError, match=r"ckpt_path=nothing\.ckpt: no such file"):
        resolve_resume("nothing.ckpt", output_dir=out, output_dir_given=False, experiment="x")


# ---------------------------------------------------------------- train


def run_train(monkeypatch, *overrides: str) -> int:
    monkeypatch.setattr(sys, "argv", ["train.py", *overrides])
    try:
        return train.main()
    except SystemExit as end:  # Hydra's own refusals
        return int(end.code or 0)


@pytest.fixture
def training(tmp_path, monkeypatch, capsys):
    """Run the tiny experiment with overrides: (status, the last line on stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str, stage: str = "stage1", without: Sequence[str] = ()) -> tuple[int, str]:
        tiny = [override for override in TINY[stage] if override.split("=")[0] not in without]
        status = run_train(monkeypatch, *tiny, "trainer.max_steps=2", *overrides)
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return status, err.strip().splitlines()[-1] if err.strip() else ""

    return run


@pytest.fixture(scope="module")
def mae_checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mae")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = tiny_config("trainer.max_steps=1", output_dir=folder, stage="mae")
        assemble(config, experiment="mae_tiny", checkpoint=None).fit()
    return folder / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.global_batch_size=33"], "error: data.global_batch_size=33 is larger than the training split"),
        (
            ["data.global_batch_size=9", "trainer.accumulate_grad_batches=2"],
            "error: data.global_batch_size=9 must be",
        ),
        (["model.image_size=33"], "error: model.image_size=33 must be divisible by patch_size=8; nearest"),
        (
            ["model.encoder.weights=/nowhere"],
            "error: model.encoder.weights=/nowhere: no encoder weights at /nowhere. Run",
        ),
        (["trainer.precision=half"], "error: trainer.precision=half: give auto, 32-true"),
        (["trainer.precision=16-mixed"], "error: trainer.precision=16-mixed (fp16) needs CUDA"),
        (["model.disc_loss=hinged"], "error: model.disc_loss=hinged: give hinge or vanilla"),
        (["ckpt_path=last"], "error: ckpt_path=last: there is no outputs/demo/rae/checkpoints/last.ckpt"),
        (["ckpt_path=nothing.ckpt"], "error: ckpt_path=nothing.ckpt: no such file"),
        (["data.on_bad_image=ignore"], "error: data.on_bad_image=ignore: give replace or error"),
        (
            ["callbacks.reconstruction_metrics.every_n_epochs=1"],
            "error: callbacks.reconstruction_metrics: set",
        ),
        (
            ["model.encoder.architecture.hiden_size=1"],
            "error: model.encoder.architecture.hiden_size: vit_mae has no such key; did you mean hidden_size?",
        ),
    ],
    ids=lambda case: case[0] if isinstance(case, list) else "",
)
def test_a_mistake_is_one_line_and_leaves_nothing(training, overrides, line, tmp_path):
    status, found = training(*overrides)
    assert status == 2
    assert found.startswith(line)
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_network_for_scores_that_is_missing_leaves_no_folder(training, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    wants = ["callbacks.reconstruction_metrics.metrics=[rfid]", "logger.tensorboard=true"]
    status, line = training(*wants, "paths.output_dir=runs/a")
    assert (status, line.split(":")[:2]) == (2, ["error", " FID's Inception-v3"])
    assert not (tmp_path / "runs").exists()


def test_a_run_that_fails_after_steps_keeps_what_it_wrote(training, tmp_path):
    far = "model.optimizer.lr=1e30", "model.clip_grad=0", "model.scheduler.warmup_steps=0"
    status, line = training(*far, "paths.output_dir=runs/a", "trainer.max_steps=6")
    assert (status, "not finite" in line) == (2, True)
    assert (tmp_path / "runs/a/train.log").is_file()
    assert (tmp_path / "runs/a/config.yaml").is_file()


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("mae", "model.architecture.image_size"),
        ("stage2", "model.rae.image_size"),
        ("linear_probe", "model.image_size"),
    ],
)
def test_a_size_that_does_not_split_into_patches_is_named_by_its_key(training, stage, key):
    status, found = training(f"{key}=33", stage=stage, without=[key])
    assert (status, found) == (2, f"error: {key}=33 must be divisible by patch_size=8; nearest valid: 32, 40")


def test_an_architecture_of_pretraining_has_the_keys_of_its_kind(training):
    status, found = training("model.architecture.decoder_hiden_size=8", stage="mae")
    assert (status, found) == (
        2,
        "error: model.architecture.decoder_hiden_size: vit_mae has no such key; did you mean decoder_hidden_size?",
    )


@pytest.mark.parametrize(
    ("overrides", "known"),
    [(["experiment=rae_dynamo"], "rae_dino"), (["model.disc_wieght=1"], "disc_wieght")],
)
def test_a_name_that_hydra_does_not_know_is_an_error(tmp_path, monkeypatch, capsys, overrides, known):
    monkeypatch.chdir(tmp_path)
    status = run_train(monkeypatch, "experiment=rae_tiny", *overrides)
    err = capsys.readouterr().err
    assert status != 0
    assert "Traceback" not in err
    assert known in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["empty", "texts", "absent"])
def test_a_data_folder_without_images_is_named(training, tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no image")
    synthetic = [override.split("=")[0] for override in TINY["stage1"] if override.startswith("data.source.")]
    status, line = training("data=image_folder", f"data.data_dir={folder}", without=synthetic)
    assert status == 2
    assert line.startswith("error: ")
    assert folder in line


def test_a_checkpoint_of_another_kind_is_refused(training, mae_checkpoint, tmp_path):
    status, line = training(f"ckpt_path={mae_checkpoint}")
    assert status == 2
    assert line.startswith(
        f"error: ckpt_path={mae_checkpoint} is a checkpoint of kind 'mae'; this experiment trains 'stage1'"
    )


def test_foreign_and_damaged_checkpoints_are_refused(training, mae_checkpoint, tmp_path):
    foreign, damaged = tmp_path / "foreign.ckpt", tmp_path / "damaged.ckpt"
    torch.save({"state_dict": {}}, foreign)
    damaged.write_bytes(mae_checkpoint.read_bytes()[:-1000])
    status, line = training(f"ckpt_path={foreign}", stage="mae")
    assert (status, line.startswith(f"error: ckpt_path={foreign} is not a checkpoint of unirae")) == (
        2,
        True,
    )
    status, line = training(f"ckpt_path={damaged}", stage="mae")
    assert (status, line.startswith(f"error: ckpt_path={damaged} is truncated or not a torch file")) == (
        2,
        True,
    )


def test_a_checkpoint_of_another_width_is_refused_before_a_step(training, mae_checkpoint):
    status, line = training(f"ckpt_path={mae_checkpoint}", "model.architecture.hidden_size=16", stage="mae")
    assert status == 2
    assert "of another shape" in line
    assert line.startswith("error: the weights do not fit the mae of this configuration: ")


def test_last_continues_an_experiment_in_its_own_folder_and_writes_everything_there(training, tmp_path):
    """rae_tiny names its folder itself, so ``ckpt_path=last`` alone must find it."""
    assert training()[0] == 0
    run = tmp_path / "outputs" / "demo" / "rae"
    assert {"checkpoints", "csv", "samples", "eval", "config.yaml", "experiment", "train.log"} <= set(
        os.listdir(run)
    )
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}
    status, _ = training("ckpt_path=last", "trainer.max_steps=3")
    assert status == 0
    assert [row["step"] for row in read_metrics(run / "csv" / "metrics.csv")] == ["1", "2", "3"]
    assert torch.load(run / "checkpoints" / "last.ckpt")["global_step"] == 3


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        (
            ["experiment=rae_tinyy"],
            "experiment=rae_tinyy: there is no such choice; did you mean rae_tiny",
        ),
        (
            ["experiment=rae_tiny", "trainer.max_stps=3"],
            "trainer.max_stps=3: there is no such key; did you mean trainer.max_steps?",
        ),
        ([], "experiment=NAME is missing; choose one of dit_base"),
    ],
)
def test_what_hydra_refuses_is_one_line_too(tmp_path, monkeypatch, capsys, overrides, cause):
    monkeypatch.chdir(tmp_path)
    assert run_train(monkeypatch, *overrides) == 2
    error = capsys.readouterr().err
    assert cause in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["max_steps", "max_epochs"])
def test_a_length_that_is_no_number_is_refused(key):
    from unirae.app.run.builders import total_steps

    with pytest.raises(ConfigError, match=f"trainer.{key}='' is not a number"):
        total_steps({"max_steps": 1, "max_epochs": 1} | {key: ""}, steps_per_epoch=5)


# ---------------------------------------------------------------- paths


def test_a_tilde_is_the_home_folder_in_every_path(monkeypatch, tmp_path):
    from unirae.app import convert, export
    from unirae.app.shell.options import parse

    monkeypatch.setenv("HOME", str(tmp_path))
    words = [
        "--from=rae",
        "--output=~/x",
        "--config=~/c.yaml",
        "--checkpoint=~nobody-of-this-name/a",
        "--data=~",
    ]
    monkeypatch.setattr(sys, "argv", ["convert.py", *words])
    options = parse(convert.Options)
    assert (options.output, options.config) == (tmp_path / "x", tmp_path / "c.yaml")
    assert options.checkpoint == Path("~nobody-of-this-name/a")
    assert (options.from_, options.rae, options.data) == ("rae", None, "~")
    monkeypatch.setattr(sys, "argv", ["export.py", "--checkpoint=~/run", "--output=out", "--picture=~/a.png"])
    options = parse(export.Options)
    assert options.checkpoint == tmp_path / "run"
    assert (options.output, options.picture) == (Path("out"), tmp_path / "a.png")


def test_a_tilde_is_expanded_in_nested_options_and_in_lists(monkeypatch, tmp_path):
    from dataclasses import dataclass

    from unirae.app.shell.options import parse

    @dataclass(frozen=True, kw_only=True)
    class Part:
        file: Path

    @dataclass(frozen=True, kw_only=True)
    class Options:
        part: Part
        folders: tuple[Path, ...]
        default: Path = Path("~/default")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["x", "--part.file=~/a", "--folders", "~/b", "c"])
    found = parse(Options)
    assert found == Options(
        part=Part(file=tmp_path / "a"), folders=(tmp_path / "b", Path("c")), default=tmp_path / "default"
    )
