"""The health check of a training run: it warns of one that goes wrong, once; where curves do not apply it says so."""

import logging
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest

from synthetic_curves import healthy_curves
from tiny_training import fit, tiny_config
from unirae.app.run.assembly import assemble
from unirae.evaluation.health.check import Curves, read_series
from unirae.evaluation.health.curve_files import write_curves
from unirae.training.callbacks.health import HealthCheck, summary
from unirae.training.events import logs_now

STEPS = 30


class Recorder(pl.Callback):
    """What a CSV logger would write."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        if logs_now(trainer):
            terms = {f"train/{name}": value for name, value in module.last_terms.items()}
            self.rows.append({"step": trainer.global_step, **terms})


def config_of(folder, seed, *overrides):
    length = (f"trainer.max_steps={STEPS}", f"model.scheduler.decay_end_steps={STEPS}")
    return tiny_config(*length, f"seed={seed}", *overrides, output_dir=folder, stage="mae")


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    runs = []
    for seed in range(3):
        recorder = Recorder()
        fit(config_of(tmp_path_factory.mktemp("run"), seed), callbacks=[recorder])
        runs.append(read_series(recorder.rows))
    return Curves(name="tiny", runs=runs, window_steps=5)


def warnings_of(caplog, config, check):
    with caplog.at_level(logging.INFO, logger="unirae"):
        module = fit(config, callbacks=[check])
    assert module.global_step == STEPS, "it never stops a run"
    return [record for record in caplog.records if record.message.startswith("health:")]


def test_a_healthy_run_hears_nothing(curves, tmp_path, caplog):
    assert warnings_of(caplog, config_of(tmp_path, 3), HealthCheck(curves=curves, obstacles=[])) == []


def test_a_sabotaged_learning_rate_is_warned_of_once_for_each_column(curves, tmp_path, caplog):
    sabotaged = config_of(tmp_path, 3, "model.optimizer.lr=1.0")
    said = warnings_of(caplog, sabotaged, HealthCheck(curves=curves, obstacles=[]))
    assert {record.levelname for record in said} == {"WARNING"}
    columns = [record.message.split()[1] for record in said]
    assert "train/loss" in columns
    assert len(set(columns)) == len(columns)
    (loss,) = [record.message for record in said if " train/loss " in record.message]
    assert "left the band of tiny: " in loss
    assert " at step 10, where the band is " in loss
    assert "Usual causes: a learning rate that is too high" in loss


def test_where_the_curves_do_not_apply_it_says_why_and_nothing_more(curves, tmp_path, caplog):
    reasons = [f"key{i}=1 (reference: 2)" for i in range(5)]
    check = HealthCheck(curves=curves, obstacles=reasons)
    (said,) = warnings_of(caplog, config_of(tmp_path, 3, "model.optimizer.lr=1.0"), check)
    assert said.levelname == "INFO"
    assert said.message == (
        "health: not compared with the curves of tiny, whose settings differ: "
        "key0=1 (reference: 2), key1=1 (reference: 2), key2=1 (reference: 2) and 2 more"
    )
    assert summary(["a", "b"]) == "a, b"


@pytest.mark.parametrize(
    "key", ["data.source._target_", "model.rae.pretrained_decoder_path:data.source._target_"]
)
def test_on_other_data_nobody_is_told_unless_asked(curves, tmp_path, caplog, key):
    check = HealthCheck(
        curves=curves, obstacles=["trainer.max_steps=1 (reference: 2)", f"{key}=mine (reference: theirs)"]
    )
    assert warnings_of(caplog, config_of(tmp_path, 3), check) == []
    with caplog.at_level(logging.DEBUG, logger="unirae"):
        check.on_train_start(*[SimpleNamespace()] * 2)
    (said,) = caplog.messages[-1:]
    assert said.startswith("health: not compared with the curves of tiny")


def test_scores_are_watched_too(caplog):
    check = HealthCheck(curves=healthy_curves(), obstacles=[])
    trainer: Any = type("Trainer", (), {"global_step": 500})()
    check.on_train_start(trainer, trainer)
    check.on_scores(trainer, trainer, {"val/psnr": 15.0, "val/unknown": 1.0})
    assert caplog.records == []
    trainer.global_step = 1000
    for _ in range(2):
        check.on_scores(trainer, trainer, {"val/psnr": 3.0})
    (said,) = caplog.records
    assert "val/psnr left the band of synthetic: 3 at step 1000" in said.message


# ---------------------------------------------------------------- from the configuration


def health_checks(config):
    run = assemble(config, experiment="tiny", checkpoint=None)
    return [c for c in run.trainer.callbacks if isinstance(c, HealthCheck)]  # pyright: ignore


def test_a_changed_run_of_an_experiment_is_not_compared_with_its_curves(tmp_path):
    (check,) = health_checks(config_of(tmp_path, 0))
    assert check.curves.name == "mae_tiny"
    assert f"trainer.max_steps={STEPS} (reference: 1000)" in check.obstacles


def test_curves_of_ones_own_and_none(curves, tmp_path):
    file = write_curves(tmp_path / "mine.json", curves, origins=[{}] * 3, machine="here")
    (check,) = health_checks(config_of(tmp_path, 0, f"callbacks.health_check.curves={file}"))
    assert (check.curves.name, check.obstacles) == ("tiny", [])
    assert health_checks(config_of(tmp_path, 0, "callbacks.health_check.curves=null")) == []
