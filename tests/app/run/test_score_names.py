"""The scores that a run says it will have are those that it has; and a wish for another is refused at once."""

import warnings

import pytest

from tiny_training import tiny_config
from unirae.app.run import assembly
from unirae.app.run.assembly import assemble
from unirae.app.run.score_names import resolve_monitor
from unirae.app.run.stages import STAGES
from unirae.app.run.stages.base import EVERY_STAGE_READS
from unirae.core.errors import ConfigError

SCORED = {
    "stage1": "callbacks.reconstruction_metrics.metrics=[psnr,ssim,fd]",  # which is recorded as rfd
    "stage2": "callbacks.generation_metrics.metrics=[fd]",
    "linear_probe": "seed=0",
    "mae": "seed=0",
}


@pytest.mark.parametrize("stage", SCORED)
def test_a_run_has_the_scores_that_it_expects(tmp_path, stage, monkeypatch):
    monkeypatch.setenv(
        "UNIRAE_CACHE_DIR", str(tmp_path / "cache")
    )  # other tests count what is computed for theirs
    expected = []
    monkeypatch.setattr(
        assembly, "build_callbacks", lambda *a, **k: expected.extend(k["scores"]) or original(*a, **k)
    )
    config = tiny_config("trainer.max_steps=1", SCORED[stage], output_dir=tmp_path, stage=stage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = assemble(config, experiment="tiny", checkpoint=None)
        run.fit()
    assert sorted(run.scores) == sorted(expected)
    assert (tmp_path / "checkpoints/best.ckpt").exists() == (stage == "stage1")


original = assembly.build_callbacks


@pytest.mark.parametrize(
    ("stage", "override", "message"),
    [
        ("stage1", "callbacks.model_checkpoint.monitor=val/nope", r"monitor=val/nope: .* val/psnr$"),
        ("stage2", "callbacks.model_checkpoint.monitor=val/psnr", r"monitor=val/psnr: .* val/fd_<encoder>$"),
        ("stage2", "optimized_metric=val/psnr", r"optimized_metric=val/psnr: .* val/fd_<encoder>$"),
        ("mae", "callbacks.model_checkpoint.monitor=val/loss", "it has none"),
        ("linear_probe", "callbacks.model_checkpoint.monitor=val/psnr", r"val/top1, val/top5$"),
        (
            "linear_probe",
            "callbacks.model_checkpoint.monitor=val/top5",
            r"its scores are val/top1$",
        ),  # 2 classes
        ("stage2", "callbacks.model_checkpoint.monitor=val/fd_mae", r"are val/fd_random_mae$"),  # known later
        (
            "stage1",
            "callbacks.model_checkpoint.mode=min",
            r"mode=min would keep the worst state: of val/psnr",
        ),
    ],
)
def test_another_score_is_refused_at_start(tmp_path, stage, override, message):
    config = tiny_config(override, output_dir=tmp_path / "run", stage=stage)
    with pytest.raises(ConfigError, match=message):
        assemble(config, experiment="tiny", checkpoint=None)
    assert not (tmp_path / "run/config.yaml").exists()


def test_the_mode_follows_from_the_score(tmp_path):
    def resolved(*overrides: str) -> dict:
        config = tiny_config(
            *overrides, "callbacks.generation_metrics.metrics=[fid,is]", output_dir=tmp_path, stage="stage2"
        )
        stage = STAGES["stage2"]
        return resolve_monitor(config, stage.score_names(config), default=stage.monitor)

    monitor = "callbacks.model_checkpoint.monitor"
    assert resolved() == {"monitor": None, "mode": "max"}
    assert resolved(f"{monitor}=val/fid") == {"monitor": "val/fid", "mode": "min"}
    assert resolved(f"{monitor}=val/is") == {"monitor": "val/is", "mode": "max"}
    random = "callbacks.generation_metrics.inception_weights=random"
    assert resolved(f"{monitor}=val/is_random_inception", random)["mode"] == "max"


@pytest.mark.parametrize(
    ("stage", "key", "read"),
    [
        ("stage1", "generation_metrics.num_steps", False),
        ("stage1", "samples.num_steps", False),
        ("stage1", "samples.count", True),
        ("stage2", "samples.num_steps", True),
        ("mae", "samples.count", False),
        ("mae", "model_checkpoint.every_n_train_steps", True),
        ("linear_probe", "probe_accuracy.batch_size", True),
    ],
)
def test_a_key_of_another_stages_callbacks_is_taken_and_said(tmp_path, caplog, stage, key, read):
    config = tiny_config(f"callbacks.{key}=3", output_dir=tmp_path, stage=stage)
    with caplog.at_level("INFO", "unirae"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assemble(config, experiment="tiny", checkpoint=None)
    said = f"callbacks.{key} is set, and nothing in {stage} reads it"
    assert (said in caplog.text) is not read


def test_what_a_stage_reads_are_keys_of_the_configuration(tmp_path):
    for stage in STAGES.values():
        node = tiny_config(output_dir=tmp_path, stage=stage.name)["callbacks"]
        for key in (*stage.reads, *EVERY_STAGE_READS):
            outer, _, inner = key.partition(".")
            assert outer in node
            assert not inner or inner in node[outer]
