"""What ``import unirae`` offers, and ``unirae.train``: a run like the command's that leaves the process as it was."""

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import unirae
from tiny_training import TINY
from unirae.core.errors import ConfigError, InputError, UserError
from unirae.core.io import load_tensors


def overrides(folder: Path, *more: str, stage: str = "stage1") -> list[str]:
    return [*TINY[stage], f"paths.output_dir={folder}", "trainer.max_steps=3", *more]


def losses(folder: Path) -> list[str]:
    """The column of the loss of a run's own record, as it is written."""
    lines = [line.split(",") for line in (folder / "csv/metrics.csv").read_text().splitlines()]
    column = lines[0].index("train/loss")
    return [line[column] for line in lines[1:] if line[column]]


# ------------------------------------------------------------------ names


def test_the_public_names_are_listed_before_and_after_they_are_used():
    script = (
        "import sys, unirae; before = dir(unirae); assert before == sorted(unirae.__all__), before\n"
        "assert 'torch' not in sys.modules\n"
        "from unirae import *\n"
        "assert dir(unirae) == before and callable(load_rae) and callable(train)\n"
        "import rlcompleter; found = rlcompleter.Completer({'unirae': unirae})\n"
        "assert found.complete('unirae.load_r', 0).startswith('unirae.load_rae')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_networks_do_not_bring_the_compiler():
    """160 MB and a second, which only a compiled run needs."""
    script = (
        "import sys, unirae.models.rae, unirae.models.denoisers.build, unirae.evaluation.sampling.image_sampler\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("wrong", "right"), [("load_rea", "load_rae"), ("trian", "train"), ("Sample", "sample")]
)
def test_a_misspelt_name_names_the_nearest(wrong, right):
    with pytest.raises(AttributeError, match=f"no attribute '{wrong}'; did you mean '{right}'"):
        getattr(unirae, wrong)


def test_a_name_that_is_like_none_lists_them():
    with pytest.raises(AttributeError, match=r"it has .*load_rae.*train"):
        getattr(unirae, "quux")  # noqa: B009 - as written it would be a useless expression


# ------------------------------------------------------------------ a run


def test_two_runs_of_one_process_know_nothing_of_each_other(tmp_path, monkeypatch):
    """A, then B with other settings, then A again: equal to the bit; and no step looks at its images' values."""

    def no_look(images):
        raise AssertionError("a loop waits for the values of its images")

    monkeypatch.setattr("unirae.models.rae.looks_like_rgb", no_look)
    first = unirae.train(overrides(tmp_path / "a"))
    unirae.train(
        overrides(tmp_path / "b", "seed=7", "trainer.float32_matmul=medium", "trainer.deterministic=true")
    )
    again = unirae.train(overrides(tmp_path / "c"))
    assert first.folder == tmp_path / "a"
    assert losses(tmp_path / "a") == losses(tmp_path / "c") != losses(tmp_path / "b")
    assert first.scores == again.scores
    assert first.scores["val/psnr"] > 0
    assert unirae.load_rae(first.folder).latents(torch.rand(1, 3, 32, 32)).shape == (1, 32, 4, 4)


def test_the_process_is_left_as_it_was(tmp_path):
    seen = {}

    def state():
        root = logging.getLogger()
        return {
            "handlers": list(root.handlers),
            "levels": (root.level, logging.getLogger("unirae").level, logging.getLogger("httpx").level),
            "filters": list(warnings.filters),
            "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
            "environment": dict(os.environ),
            "torch": torch.get_rng_state().tolist(),
            "python": random.getstate(),
            "numpy": np.random.get_state()[1].tolist(),
            "precision": torch.get_float32_matmul_precision(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }

    def loss(recon, target):  # in the middle of the run
        seen.update(state())
        return (recon - target).square().mean()

    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    logging.getLogger("httpx").setLevel(logging.DEBUG)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(20261129)  # an earlier test may have left what a run sets
    try:
        before = state()
        settings = ("trainer.deterministic=true", "trainer.float32_matmul=medium")
        unirae.train(overrides(tmp_path, *settings), perceptual=loss)
        after = state()
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger("httpx").setLevel(logging.NOTSET)
    assert after == before
    assert {key for key in before if seen[key] != before[key]} == before.keys()  # so the comparison can fail
    assert "run folder" in (tmp_path / "train.log").read_text()


def test_it_runs_in_a_thread_beside_the_callers_own_hydra(tmp_path):
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    found = []
    with hydra.initialize(version_base="1.3", config_path=None):
        of_caller = GlobalHydra.instance().hydra
        words = overrides(tmp_path, "trainer.max_steps=1")
        thread = threading.Thread(target=lambda: found.append(unirae.train(words)))
        thread.start()
        thread.join()
        assert GlobalHydra.instance().hydra is of_caller
    assert not GlobalHydra.instance().is_initialized()
    assert found[0].folder == tmp_path
    assert (tmp_path / "checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ("experiment=rae_tiny", InputError, "must be a list"),
        (["experiment=nope"], ConfigError, "nope"),
        (
            ["experiment=rae_tiny", "model.encoder.weights=/not/there", "paths.output_dir=x"],
            UserError,
            "/not/there",
        ),
        (["experiment=rae_tiny", "model.optimiser.lr=1"], ConfigError, "optimiser"),
    ],
)
def test_mistakes_are_errors_of_one_line_that_a_caller_can_catch(
    words, error, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    handlers = list(logging.getLogger().handlers)
    with pytest.raises(error, match=message):
        unirae.train(words)
    assert logging.getLogger().handlers == handlers


def test_stage_2_looks_at_no_values_either(tmp_path, monkeypatch):
    def no_look(images):
        raise AssertionError("a loop waits for the values of its images")

    monkeypatch.setattr("unirae.models.rae.looks_like_rgb", no_look)
    run = unirae.train(overrides(tmp_path, "trainer.max_steps=1", stage="stage2"))
    assert unirae.load_dit(run.folder).latent_shape == (32, 4, 4)


# ------------------------------------------------------------------ a loss of one's own


def test_a_loss_of_ones_own_is_minimised_logged_and_named(tmp_path):
    class Edges(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, recon, target):
            assert recon.shape == target.shape == (8, 3, 32, 32)
            assert target.min() >= 0
            assert target.max() <= 1
            return self.scale * (recon.diff(dim=3) - target.diff(dim=3)).abs().mean()

    words = overrides(tmp_path / "own", "model.disc_weight=0", "model.perceptual_weight=10")
    unirae.train(words, perceptual=Edges())
    unirae.train(overrides(tmp_path / "none", "model.disc_weight=0", "model.perceptual_weight=0"))
    assert losses(tmp_path / "own") != losses(tmp_path / "none")
    header = (tmp_path / "own/csv/metrics.csv").read_text().splitlines()[0]
    assert "train/perceptual" in header
    config = load_tensors(tmp_path / "own/checkpoints/last.ckpt")["unirae"]["config"]
    assert config["model"]["perceptual"]["_target_"].endswith("Edges")
    state = load_tensors(tmp_path / "own/checkpoints/last.ckpt")["state_dict"]
    assert not [name for name in state if "scale" in name]


@pytest.mark.parametrize(
    ("loss", "more", "message"),
    [
        (
            lambda recon, target: (recon - target).abs(),
            (),
            r"must give a scalar tensor, got shape \[8, 3, 32, 32\]",
        ),
        (lambda recon, target: (recon - target).detach().abs().mean(), (), "no gradient flows"),
        (lambda recon, target: 0.5, (), "must give a scalar tensor, got float"),
        ("lpips", (), "must be a function of"),
        (lambda recon, target: recon.mean(), ("model.perceptual_weight=0",), "model.perceptual_weight is 0"),
    ],
)
def test_a_loss_that_cannot_work_is_refused(loss, more, message, tmp_path):
    with pytest.raises(InputError, match=message):
        unirae.train(overrides(tmp_path, *more), perceptual=loss)


def test_a_loss_for_another_stage_is_refused(tmp_path):
    with pytest.raises(InputError, match="perceptual= is for stage1; experiment=dit_tiny trains stage2"):
        unirae.train(overrides(tmp_path, stage="stage2"), perceptual=lambda a, b: (a - b).mean())
